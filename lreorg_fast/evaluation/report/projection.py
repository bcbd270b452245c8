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
DESCRIPTIONS = {
    "tsne": "t-SNE, where neighbours are alike and distances between clusters mean nothing",
    "pca": "the two principal components",
}


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
        if self.method not in DESCRIPTIONS:
            raise ConfigError(f"method = {self.method!r} must be one of {', '.join(DESCRIPTIONS)}")


@dataclass(frozen=True)
class Clusters:
    """What a plot shows.

    Attributes:
        title: what the features are.
        method: in words.
        points: (N, 2); None where there are none, and then ``missing`` says why.
        labels: N groups.
        missing: what is not shown, and why; may be empty.
    """

    title: str
    method: str
    points: Floats | None
    labels: list[str]
    missing: str


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
    method = DESCRIPTIONS[given.method]
    values = np.asarray(given.features[chosen], dtype=np.float64)
    if len(values) < _FEWEST or np.ptp(values, axis=0).max(initial=0.0) == 0:
        reason = f"{len(values)} usable features; a projection needs {_FEWEST} that differ"
        return Clusters(given.title, method, None, labels, reason)
    try:
        missing = _left_out(len(names), int(finite.sum()), len(chosen))
        return Clusters(given.title, method, _reduced(values, given.method), labels, missing)
    except MissingExtra as error:
        once("evaluation.report.projection", f"plots of features are left out: {error}")
        return Clusters(given.title, method, None, labels, str(error))


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


def _left_out(given: int, finite: int, shown: int) -> str:
    parts = []
    if finite < given:
        parts.append(f"{given - finite} without a feature")
    if shown < finite:
        parts.append(f"{finite - shown} beyond {MOST_GROUPS} groups or {MOST_POINTS:,} features")
    return ", ".join(parts)
