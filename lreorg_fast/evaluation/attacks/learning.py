"""Recognizers that an attacker trains on pictures of people who are not attacked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Indices
from lreorg_fast.log import once
from lreorg_fast.media.pictures import Picture

if TYPE_CHECKING:
    from torch import Tensor

    from lreorg_fast.models import FaceBackbone

Extractor = Callable[[Sequence[Picture]], Floats]
"""N pictures -> (N, D) rows; NaN where nothing was seen."""
FEWEST_PEOPLE = 10
# Principal components with a smaller share of all squares are rounding, which whitening would
# blow up.
_LEAST_SPREAD = 1e-12


@dataclass(frozen=True)
class TrainingSet:
    """What an attacker has: the method, and pictures of people of their own to run it on.

    Args:
        originals: n pictures of people who are in no test.
        outputs: what the method made of them; None where nothing was released.
        subjects: (n,) the person on each.

    Raises:
        ConfigError: lengths that do not fit.
    """

    originals: Sequence[Picture]
    outputs: Sequence[Picture | None]
    subjects: Indices

    def __post_init__(self) -> None:
        if not len(self.originals) == len(self.outputs) == len(self.subjects):
            raise ConfigError(
                f"{len(self.originals)} originals, {len(self.outputs)} outputs and "
                f"{len(self.subjects)} subjects for training must be as many; pair them"
            )

    @property
    def released(self) -> list[tuple[Picture, int]]:
        """Outputs and their people."""
        pairs = zip(self.outputs, self.subjects.tolist(), strict=True)
        return [(picture, person) for picture, person in pairs if picture is not None]

    @property
    def refusal(self) -> str | None:
        """Why nothing can be learnt from the outputs."""
        _, counts = np.unique([person for _, person in self.released], return_counts=True)
        twice = int((counts > 1).sum())
        if twice >= FEWEST_PEOPLE:
            return None
        return (
            f"the method released two outputs of {twice} of "
            f"{len(np.unique(self.subjects))} training people, and training needs "
            f"{FEWEST_PEOPLE}"
        )

    def joint(self) -> tuple[list[Picture], Indices]:
        """Originals and outputs under the same names, because one is compared with the other."""
        outputs, people = zip(*self.released, strict=True)
        subjects = np.concatenate([self.subjects, np.array(people)])
        return [*self.originals, *outputs], subjects


class Learner(Protocol):
    """A way to train."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    def train(self, pictures: Sequence[Picture], subjects: Indices) -> Extractor:
        """What tells people like these apart; the same inputs give the same result."""


@dataclass(frozen=True)
class Projected:
    """Fisher's linear discriminant on frozen features: what separates people is stretched, what
    varies within one is shrunk. Closed form, so nothing depends on steps or learning rates.

    Args:
        extractor: the frozen features.
        name: of the result.
        description: of what the features are.
        components: principal components that are kept before. On the residual of avatars (150
            people to learn from) 64 find 45% of unprotected faces, 128 33%, 256 31%.
    """

    extractor: Extractor
    name: str
    description: str
    components: int = 64

    def train(self, pictures: Sequence[Picture], subjects: Indices) -> Extractor:
        """See :class:`Learner`.

        Raises:
            MissingExtra: without scikit-learn.
        """
        features = in_chunks(self.extractor, pictures)
        seen = np.isfinite(features).all(axis=1)
        project = discriminant(features[seen], subjects[seen], self.components)

        def extract(given: Sequence[Picture]) -> Floats:
            return project(self.extractor(given))

        return extract


def discriminant(
    features: Floats, subjects: Indices, components: int
) -> Callable[[Floats], Floats]:
    """A map from features (N, D) to unit rows in which people are apart; NaN rows stay NaN."""
    try:
        from sklearn.decomposition import PCA
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    except ImportError as error:
        raise MissingExtra(
            "attacks on features need scikit-learn: pip install 'lreorg_fast[evaluate]'"
        ) from error
    spread = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
    kept = min(components, int((spread > _LEAST_SPREAD * (features**2).sum()).sum()))
    if kept == 0:  # outputs that are all alike teach nothing
        return unit
    reduce = PCA(kept, whiten=True, svd_solver="full").fit(features)
    reduced = reduce.transform(features)
    separate = reduce.transform
    try:
        fisher = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(reduced, subjects)
    except np.linalg.LinAlgError:
        once(
            "discriminant",
            "pictures of one person are so alike that what varies within a person cannot be "
            "estimated; an attack compares whitened principal components instead",
        )
    else:

        def separate(rows: Floats) -> Floats:
            return np.asarray(fisher.transform(reduce.transform(rows)))

    width = separate(features[:1]).shape[1]

    def project(rows: Floats) -> Floats:
        made = np.full((len(rows), width), np.nan)
        seen = np.isfinite(rows).all(axis=1)
        if seen.any():
            made[seen] = unit(separate(rows[seen]))
        return made

    return project


@dataclass(frozen=True)
class FineTuned:
    """A recognizer that goes on learning, with a cosine margin (CosFace, Wang et al. 2018).

    Args:
        backbone: a trained recognizer; it is copied and not changed.
        prepare: pictures -> what it sees, (N, 3, S, S) in [-1, 1].
        name: of the result.
        description: of the backbone.
        seen: pictures that it sees in training, again and again; it decides the time.
        batch, learning_rate, margin, scale: of the training.
        seed: of the order of pictures and of the head.
    """

    backbone: FaceBackbone
    prepare: Callable[[Sequence[Picture]], Tensor]
    name: str
    description: str
    seen: int = 5_000
    batch: int = 64
    learning_rate: float = 1e-3
    margin: float = 0.25
    scale: float = 24.0
    seed: int = 0

    def train(self, pictures: Sequence[Picture], subjects: Indices) -> Extractor:
        """See :class:`Learner`. One thread or many give results that differ by rounding."""
        import torch

        x = self.prepare(pictures)
        people, number = np.unique(subjects, return_inverse=True)
        labels = torch.from_numpy(number.astype(np.int64)).to(x.device)
        random = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # of the backbone's dropout
            network = self._fit(x, labels, len(people), random)

        def extract(given: Sequence[Picture]) -> Floats:
            with torch.inference_mode():
                return unit(network(self.prepare(given)).double().cpu().numpy())

        return extract

    def _fit(self, x: Tensor, labels: Tensor, people: int, random: Any) -> FaceBackbone:
        import torch
        import torch.nn.functional as F

        network = copy.deepcopy(self.backbone).requires_grad_(True).train()
        centres = self._centres(x, labels, people)
        head = torch.nn.Parameter(centres)
        steps = max(1, self.seen // self.batch)
        optimizer = torch.optim.AdamW([*network.parameters(), head], self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=steps + 1
        )
        for chosen in _batches(len(x), self.batch, steps, random):
            shown = x[chosen]
            flip = torch.rand(len(shown), generator=random) < 0.5
            shown = torch.where(flip[:, None, None, None].to(x.device), shown.flip(3), shown)
            cosines = F.normalize(network.raw(shown)) @ F.normalize(head).t()
            margin = self.margin * F.one_hot(labels[chosen], people)
            loss = F.cross_entropy(self.scale * (cosines - margin), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return network.requires_grad_(False).eval()

    def _centres(self, x: Tensor, labels: Tensor, people: int) -> Tensor:
        """Where the untrained backbone sees each person: the head starts there."""
        import torch

        with torch.inference_mode():
            rows = torch.cat([self.backbone(part) for part in x.split(self.batch)])
        sums = torch.zeros(people, rows.shape[1], device=x.device)
        return sums.index_add(0, labels, rows.clone().float())


def _batches(count: int, size: int, steps: int, random: Any) -> Iterator[Any]:
    """Numbers of pictures; each round shows every picture once."""
    import torch

    left = torch.zeros(0, dtype=torch.int64)
    for _ in range(steps):
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count, generator=random)])
        yield left[:size]
        left = left[size:]


def in_chunks(extractor: Extractor, pictures: Sequence[Picture], size: int = 64) -> Floats:
    """(N, D) of any number of pictures."""
    starts = range(0, len(pictures), size)
    return np.concatenate([extractor(pictures[start : start + size]) for start in starts])


def unit(rows: Floats) -> Floats:
    """Rows of length 1; a row of zeros has no direction and becomes NaN."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(rows / lengths)
