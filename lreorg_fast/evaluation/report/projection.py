"""Features of a few people in two dimensions, as in the paper's Fig. 12."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Labels
from lreorg_fast.log import once

MOST_GROUPS = 8  # as many colours as can be told apart
MOST_POINTS = 1000  # 1,000 marks are about 150 kB of SVG; t-SNE of them takes seconds
_FEWEST = 5
METHODS = ("tsne", "pca")


@dataclass(frozen=True)
class FeatureSet:
    """Features to be shown.

    Args:
        title: what they are, such as "Key feature of the identity, original pictures".
        features: (N, D); rows that are not finite are left out and counted.
        labels: N names of the person, or of the group, behind each.
        method: ``tsne`` (neighbourhoods, as the paper shows them; distances between clusters mean
            nothing) or ``pca`` (the two directions of most variance).

    Raises:
        ConfigError: other shapes, or another method.
    """

    title: str
    features: Floats
    labels: Sequence[str]
    method: str = "tsne"

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.labels):
            raise ConfigError(
                f"the features '{self.title}' have the shape {self.features.shape} and "
                f"{len(self.labels)} labels; they must be (N, D) with N labels"
            )
        if self.method not in METHODS:
            raise ConfigError(f"method = {self.method!r} must be one of {', '.join(METHODS)}")


@dataclass(frozen=True)
class Clusters:
    """What a plot shows: ``points`` (N, 2), or None and the ``reason``."""

    caption: str
    points: Floats | None
    labels: list[str]
    reason: str = ""


def project(given: FeatureSet) -> Clusters:
    """The features in two dimensions; the first 8 groups and 1,000 features of those given."""
    finite: Labels = np.asarray(np.isfinite(given.features).all(axis=1))
    names = [str(label) for label in given.labels]
    groups = set(list(dict.fromkeys(names))[:MOST_GROUPS])
    usable = [index for index, name in enumerate(names) if name in groups and finite[index]]
    chosen = np.array(usable, dtype=np.int64)
    if len(chosen) > MOST_POINTS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST_POINTS).round().astype(int)]
    labels = [names[index] for index in chosen]
    left_out = _left_out(len(names), int(finite.sum()), len(chosen))
    caption = f"{given.title}: {_described(given.method)}.{left_out}"
    values = np.asarray(given.features[chosen], dtype=np.float64)
    if len(values) < _FEWEST or np.ptp(values, axis=0).max(initial=0.0) == 0:
        reason = f"{len(values)} usable features; a projection needs {_FEWEST} that differ"
        return Clusters(caption, None, labels, reason)
    try:
        return Clusters(caption, _reduced(values, given.method), labels)
    except MissingExtra as error:
        once("evaluation.report.projection", f"plots of features are left out: {error}")
        return Clusters(caption, None, labels, str(error))


def _reduced(values: Floats, method: str) -> Floats:
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise MissingExtra(
            "plots of features need scikit-learn; pip install 'lreorg_fast[evaluate]'"
        ) from error
    most = min(2 if method == "pca" else 50, *values.shape)
    reduced: Floats = PCA(most, random_state=0).fit_transform(values)
    if method == "tsne":
        perplexity = min(30.0, (len(values) - 1) / 3)
        net = TSNE(2, perplexity=perplexity, init="random", random_state=0)
        reduced = net.fit_transform(reduced).astype(np.float64)
    if reduced.shape[1] == 1:
        reduced = np.column_stack([reduced, np.zeros(len(reduced))])
    return reduced


def _described(method: str) -> str:
    if method == "tsne":
        return "t-SNE; who lies together is alike, distances between clusters mean nothing"
    return "the two principal components"


def _left_out(given: int, finite: int, shown: int) -> str:
    parts = []
    if finite < given:
        parts.append(f"{given - finite} without a feature")
    if shown < finite:
        parts.append(f"{finite - shown} beyond {MOST_GROUPS} groups or {MOST_POINTS:,} features")
    return f" Not shown: {', '.join(parts)}." if parts else ""
