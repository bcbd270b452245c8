"""What trained networks still need to make an Anonymizer, whatever pictures they are for.

Keyword features, the group codebook, and the mean feature of each content, which CLIP labels on
generated pictures. No picture of anybody and no label is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.keywords import Keyword

IDENTITY = "identity"
# (what is done, how many are done, of how many)
Progress = Callable[[str, int, int], None]

_ROWS = 2_000  # latents that pass through the networks at once
_PIXELS = 4 * 256 * 256  # of pictures that are made at once: keeps feature maps below 1 GB


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody wants to see."""


@dataclass(frozen=True)
class TableSizes:
    """How large the tables are.

    Args:
        seed: of the latents, the clusters and the choice of members.
        latents: generated people who are clustered.
        groups: m of docs/privacy.md; use 256 or more.
        members: n of docs/privacy.md, kept of each group.
        labelled: the first of the latents, whose pictures CLIP sorts by content.
        certain: share of the pictures of each content, those that CLIP is surest of, whose
            features are averaged. The mean of all that are barely old is barely old.

    Raises:
        ConfigError: too few latents for ``groups`` of ``members``, or for what is labelled.
    """

    seed: int = 71
    latents: int = 20_000
    groups: int = 256
    members: int = 8
    labelled: int = 3_000
    certain: float = 0.25

    def __post_init__(self) -> None:
        if self.groups < 2 or self.members < 1 or self.labelled < 1 or self.seed < 0:
            raise ConfigError(
                f"groups = {self.groups}, members = {self.members}, labelled = {self.labelled}, "
                f"seed = {self.seed}: at least 2 groups, 1 member, 1 labelled picture and seed 0 "
                "are needed"
            )
        if not 0 < self.certain <= 1:
            raise ConfigError(f"certain = {self.certain}, but must be above 0 and at most 1")
        if self.latents < max(self.groups * self.members, self.labelled):
            raise ConfigError(
                f"latents = {self.latents} are too few for {self.groups} groups of {self.members} "
                f"members and {self.labelled} labelled pictures; draw at least "
                f"{max(self.groups * self.members, self.labelled)}"
            )


class KeywordMeaning(Protocol):
    """CLIP as the tables use it."""

    def keyword_features(self) -> dict[str, Tensor]:
        """Unit text feature ``(cond_dim,)`` of each keyword's own name."""

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        """Scores ``(N, contents)`` of pictures in [-1, 1] for each keyword; higher fits better."""


class ClipModel(Protocol):
    """What :func:`lreorg_fast.weights.load_clip` returns, as far as it is used here."""

    def text(self, sentences: list[str]) -> Tensor: ...
    def image(self, x: Tensor) -> Tensor: ...


class ClipKeywords:
    """:class:`KeywordMeaning` of a loaded CLIP model for any table of keywords."""

    def __init__(self, clip: ClipModel, keywords: Mapping[str, Keyword]) -> None:
        self._clip = clip
        names = list(keywords)
        self._features = dict(zip(names, self._text(names), strict=True))
        self._sentences = {
            name: self._text(list(keyword.sentences))
            for name, keyword in keywords.items()
            if keyword.contents
        }

    def _text(self, sentences: list[str]) -> Tensor:
        return F.normalize(self._clip.text(sentences).float(), dim=1)

    def keyword_features(self) -> dict[str, Tensor]:
        return dict(self._features)

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        """Cosines; the picture is looked at once for all keywords."""
        image = F.normalize(self._clip.image(picture).float(), dim=1)
        return [image @ self._sentences[name].to(image).t() for name in keywords]


def picture_chunks(w: Tensor, resolution: int) -> Iterator[Tensor]:
    """Latents in parts whose pictures fit in memory together."""
    yield from w.split(max(_PIXELS // resolution**2, 1))


@torch.inference_mode()
def build_tables(
    sizes: TableSizes,
    net: CDFNet,
    generator: Any,
    meaning: KeywordMeaning,
    keywords: Mapping[str, Keyword],
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """All tensors of a bundle's ``tables`` file, float32.

    Args:
        sizes: of the tables.
        net: the bundle's CDFNet; in float32, as every network here.
        generator: with ``mapping``, ``synthesis`` and ``config``, as
            :class:`~lreorg_fast.models.StyleGAN2Generator`.
        meaning: CLIP's view of ``keywords``.
        keywords: by name; ``identity`` among them.
        progress: called after every part.

    Raises:
        ConfigError: no generated picture shows one of the contents.
    """
    w = _latents(sizes, generator)
    features = meaning.keyword_features()
    tables = {f"keyword.{name}": feature for name, feature in features.items()}
    identity = _key_features(net, w, features[IDENTITY], progress)
    means, members = _codebook(identity, sizes, progress)
    tables |= {"codebook.means": means, "codebook.members": members}
    labelled = w[: sizes.labelled]
    contents = {name: len(keyword.contents) for name, keyword in keywords.items()}
    names = [name for name, count in contents.items() if count]
    for name, scores in _scores(labelled, generator, meaning, names, progress).items():
        f, _ = net.disentangle(labelled, features[name])
        chosen = _surest(scores, sizes.certain)
        for rows, sentence in zip(chosen, keywords[name].sentences, strict=True):
            if not len(rows):
                raise ConfigError(
                    f"none of {len(labelled)} generated pictures is '{sentence}' to CLIP, so "
                    f"'{name}' has no mean for it; label more pictures or change the keyword"
                )
        tables[f"attribute.{name}.means"] = torch.stack([f[rows].mean(0) for rows in chosen])
    return tables


def _latents(sizes: TableSizes, generator: Any) -> Tensor:
    random = torch.Generator().manual_seed(sizes.seed)
    z = torch.randn(sizes.latents, generator.config.z_dim, generator=random)
    w: Tensor = generator.mapping(z)
    return w


def _key_features(net: CDFNet, w: Tensor, keyword: Tensor, progress: Progress) -> Tensor:
    found: list[Tensor] = []
    for part in w.split(_ROWS):
        found.append(net.disentangle(part, keyword)[0])
        progress("key features", sum(map(len, found)), len(w))
    return torch.cat(found)


def _scores(
    w: Tensor, generator: Any, meaning: KeywordMeaning, names: list[str], progress: Progress
) -> dict[str, Tensor]:
    """How well the contents of every keyword fit each picture, ``(N, contents)`` each."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    done = 0
    for part in picture_chunks(w, generator.config.resolution) if names else ():
        scores = meaning.contents(generator.synthesis(part).clamp(-1, 1), names)
        for name, rows in zip(names, scores, strict=True):
            found[name].append(rows)
        done += len(part)
        progress("labelled pictures", done, len(w))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _surest(scores: Tensor, share: float) -> list[Tensor]:
    """For each content, the ``share`` of its pictures whose score leads by most: their rows."""
    best = scores.topk(2, dim=1)
    lead = best.values[:, 0] - best.values[:, 1]
    chosen = []
    for content in range(scores.shape[1]):
        rows = (best.indices[:, 0] == content).nonzero()[:, 0]
        count = math.ceil(share * len(rows))
        chosen.append(rows[lead[rows].argsort(descending=True)[:count]])
    return chosen


def _codebook(identity: Tensor, sizes: TableSizes, progress: Progress) -> tuple[Tensor, Tensor]:
    """Cluster unit features into groups; keep ``members`` random members of each."""
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise MissingExtra("clustering needs scikit-learn: pip install 'lreorg_fast[train]'") from (
            error
        )
    progress("groups", 0, sizes.groups)
    unit = F.normalize(identity, dim=1).cpu().numpy()
    clusters = KMeans(sizes.groups, n_init=1, random_state=sizes.seed).fit(unit)
    random = np.random.default_rng(sizes.seed)
    members = []
    for group in range(sizes.groups):
        inside = np.flatnonzero(clusters.labels_ == group)
        chosen = random.choice(inside, sizes.members, replace=len(inside) < sizes.members)
        members.append(identity[torch.from_numpy(chosen)])
    progress("groups", sizes.groups, sizes.groups)
    means = torch.from_numpy(clusters.cluster_centers_.astype(np.float32))
    return means, torch.stack(members)
