"""Keyword swap training: CDFNet learns what a keyword means without labels.

Two latents swap their key features under one keyword; what the pictures of the swapped latents
must and must not share is asked of an identity net (identity) or of CLIP (the other keywords).
Beside the paper's two losses there is one on the end of a sampled plan, because the swap alone
lets attribute features carry the identity back in (measured: docs/training_notes.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.cdfnet.training_pass import TrainingPass
from lreorg_fast.errors import ConfigError
from lreorg_fast.training import losses

IDENTITY = "identity"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Judges(Protocol):
    """What pictures and their meaning are asked of; everything is differentiable and frozen."""

    def latents(self, count: int) -> Tensor:
        """``(count, rows, dim)`` latents from the generator's mapping network."""

    def picture(self, latents: Tensor) -> Tensor:
        """``(N, rows, dim) -> (N, 3, H, W)``."""

    def identity(self, picture: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Unit embeddings ``(N, D)``, and feature maps for the perceptual distance."""

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        """CLIP's distributions over the sentences of each keyword, ``(N, contents)`` each."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of Eq. 5 and 8; the defaults are the paper's.

    ``contents_kept`` is not in the paper: in a swap of one attribute, CLIP's contents of every
    other keyword of ``kept_keywords`` must stay as they were. Without it nothing but L_f asks a
    key feature to leave the other attributes alone. The identity swap has no such term on purpose:
    what nobody asks to keep should go with the identity.

    ``reversal`` and ``identity_back`` are not in the paper either: after a swap (a plan) the
    original key feature is put back, and the latent (the identity) must come back with it. L_r
    asks for the same as a distance, which the way back makes larger.
    """

    identity_swap: float = 24.0
    perceptual: float = 1.2
    latent: float = 3.0
    information: float = 10.0
    identity_kept: float = 0.2
    contents: float = 30.0
    contents_kept: float = 0.0
    reversal: float = 0.0
    identity_back: float = 0.0


@dataclass(frozen=True)
class SwapTrainingConfig:
    """How CDFNet is trained; the defaults are the paper's where it gives them.

    ``identity_floor`` None is the paper's L_I; a number stops pushing at that similarity.
    ``recurrence_every`` n: every n-th step is one through a sampled plan; 0 never (the paper).
    A plan keeps each of ``kept_keywords`` with ``keep_probability``; of the others it hides each
    with ``hide_probability``, by the donor's key feature, whose content the end must then show:
    nothing else asks a recovered attribute to leave a hidden one alone.
    ``gradient_limit`` bounds the gradient's norm; ``warm_up`` steps raise the learning rate, since
    Adam's first steps are as long as any and a few of them can make the inverse explode.
    ``skip_limit``: so many steps in a row may have a loss that is not finite (a rare latent can
    make the inverse explode) and are skipped before training stops; 0 stops at the first.
    ``keyword_shares``: how often each keyword is drawn in swap steps; identity must be there.
    ``precision``: what the products of CDFNet's layers read is rounded to, float32 or bfloat16;
    streams, sums and parameters stay float32.
    ``constant_memory``: backward recomputes each block's input from its output, so memory does not
    grow with the number of blocks; it takes more time, the smaller the batch the more (measured:
    docs/photographs.md). Without it activations are stored.
    ``final_rate``: the learning rate falls along a cosine to this part of itself; 1 keeps it.
    ``average``: weight of the past in a moving average of the parameters, kept beside them; 0 keeps
    none.
    """

    steps: int = 100_000
    batch: int = 16
    learning_rate: float = 1e-5
    weights: LossWeights = field(default_factory=LossWeights)
    keyword_shares: Mapping[str, float] = field(default_factory=lambda: {IDENTITY: 1.0})
    kept_keywords: tuple[str, ...] = ()
    identity_floor: float | None = None
    recurrence_every: int = 0
    keep_probability: float = 0.75
    hide_probability: float = 0.0
    gradient_limit: float = 50.0
    warm_up: int = 100
    skip_limit: int = 0
    precision: str = "float32"
    constant_memory: bool = True
    average: float = 0.0
    final_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.warm_up < 1:
            raise ConfigError("steps and warm_up must be at least 1 and batch at least 2")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}, but must be in (0, 1)")
        if IDENTITY not in self.keyword_shares or min(self.keyword_shares.values()) < 0:
            raise ConfigError("keyword_shares must hold 'identity' and no negative share")
        unknown = set(self.kept_keywords) - set(self.keyword_shares)
        if unknown:
            raise ConfigError(f"kept_keywords names {sorted(unknown)}, which have no share")
        if self.skip_limit < 0:
            raise ConfigError(f"skip_limit is {self.skip_limit}, but must be at least 0")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision is {self.precision!r}, but must be one of {', '.join(PRECISIONS)}"
            )
        if self.precision != "float32" and not self.constant_memory:
            raise ConfigError(f"precision {self.precision} needs constant_memory; switch it on")
        if not 0 < self.final_rate <= 1:
            raise ConfigError(f"final_rate is {self.final_rate}, but must be in (0, 1]")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average is {self.average}, but must be in [0, 1); try 0.999")
        if self.recurrence_every < 0:
            raise ConfigError(f"recurrence_every is {self.recurrence_every}, but must be >= 0")
        for name in ("keep_probability", "hide_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be in [0, 1]")


Terms = dict[str, Tensor]


class Passes(Protocol):
    """Both directions of CDFNet."""

    def disentangle(self, s: Tensor, k: Tensor) -> tuple[Tensor, Tensor]: ...
    def fuse(self, f: Tensor, r: Tensor, k: Tensor) -> tuple[Tensor, Tensor]: ...


class KeywordSwap:
    """One step's losses, for a net, its judges and a table of keyword features.

    Raises:
        ConfigError: a keyword of the configuration has no feature, or a feature does not fit.
    """

    def __init__(
        self,
        net: CDFNet,
        judges: Judges,
        features: Mapping[str, Tensor],
        config: SwapTrainingConfig,
    ) -> None:
        self.net = net
        self.judges = judges
        self.features = features
        self.config = config
        _check_features(net, features, config)
        self.names = list(config.keyword_shares)
        self.shares = torch.tensor([config.keyword_shares[name] for name in self.names])

    def step(self, index: int) -> tuple[str, Tensor, Terms]:
        """The loss of step ``index``: what kind it was, the total, and its weighted terms."""
        every = self.config.recurrence_every
        if every and index % every == every - 1:
            kind, terms = "plan", self.plan_terms()
        else:
            kind = self.names[int(torch.multinomial(self.shares, 1))]
            terms = self.swap_terms(kind)
        return kind, torch.stack(list(terms.values())).sum(), terms

    def passes(self) -> Passes:
        """The network as it is now; to be made anew after the optimizer has changed it."""
        if not self.config.constant_memory:
            return self.net
        return TrainingPass(self.net, PRECISIONS[self.config.precision])

    def swap_terms(self, keyword: str) -> Terms:
        """IOS (Eq. 5) for identity, AOS (Eq. 8) for every other keyword."""
        net, judges, k = self.passes(), self.judges, self.features[keyword]
        # Both halves of a pair in one pass: s = (s1, s2), and the other's key features (f2, f1).
        s = judges.latents(2 * self.config.batch)
        f, r = net.disentangle(s, k)
        lost, swapped = net.fuse(f.roll(self.config.batch, dims=0), r, k)
        with torch.no_grad():
            before = judges.picture(s)
        terms = self._meaning(keyword, before, judges.picture(swapped))
        weights = self.config.weights
        # Sums over the two halves (Eq. 7), hence twice the mean over all.
        return {
            **terms,
            "latent": 2 * weights.latent * losses.latent_change(s, swapped),
            "information": 2 * weights.information * losses.information_lost(lost),
            **self._reversal(net, s, swapped, f, k),
        }

    def _reversal(self, net: Passes, s: Tensor, swapped: Tensor, f: Tensor, k: Tensor) -> Terms:
        weight = self.config.weights.reversal
        if not weight:
            return {}
        back = _with_key(net, swapped, f, k)
        return {"reversal": 2 * weight * losses.latent_change(s, back)}

    def _meaning(self, keyword: str, before: Tensor, after: Tensor) -> Terms:
        """What the swapped pictures must and must not share with the originals."""
        judges, weights = self.judges, self.config.weights
        with torch.no_grad():
            known, known_maps = judges.identity(before)
        found, found_maps = judges.identity(after)
        (known1, known2), (found1, found2) = known.chunk(2), found.chunk(2)
        if keyword == IDENTITY:
            swap = losses.identity_swap(
                (known1, known2), (found1, found2), self.config.identity_floor
            )
            seen = 2 * losses.perceptual(known_maps, found_maps)
            return {
                "identity": weights.identity_swap * swap,
                "perceptual": weights.perceptual * seen,
            }
        kept = losses.cosine_distance(known1, found1) + losses.cosine_distance(known2, found2)
        return {
            "identity_kept": weights.identity_kept * kept,
            **self._contents(keyword, before, after),
        }

    def _contents(self, keyword: str, before: Tensor, after: Tensor) -> Terms:
        """L_s (Eq. 9, 10) of the swapped keyword, and what it moved of the others."""
        judges, weights = self.judges, self.config.weights
        others = [name for name in self.config.kept_keywords if name != keyword]
        asked = [keyword, *(others if weights.contents_kept else [])]
        with torch.no_grad():
            wanted = judges.contents(before, asked)
            wanted[0] = wanted[0].roll(self.config.batch, dims=0)
        found = judges.contents(after, asked)
        # Sums over the two halves, hence twice the mean over all.
        swapped = losses.content_cross_entropy(wanted[0], found[0])
        terms = {keyword: 2 * weights.contents * swapped}
        pairs = list(zip(wanted[1:], found[1:], strict=True))
        if pairs:
            moved = torch.stack([losses.content_divergence(was, now) for was, now in pairs]).sum()
            terms["contents_kept"] = 2 * weights.contents_kept * moved
        return terms

    def plan_terms(self) -> Terms:
        """The end of a sampled plan: a new identity, hidden and kept attributes as asked."""
        net, judges, weights = self.passes(), self.judges, self.config.weights
        s, donor = judges.latents(2 * self.config.batch).chunk(2)
        kept, hidden = self._sampled_plan()
        own, current, lost = self.reorganized(net, s, donor, hidden, kept)
        with torch.no_grad():
            before = judges.picture(torch.cat([s, donor]))
            known, other = judges.identity(before)[0].chunk(2)
            wanted = judges.contents(before[len(s) :], hidden) if hidden else []
            wanted += judges.contents(before[: len(s)], kept)
        after = judges.picture(current)
        found, _ = judges.identity(after)
        floor = self.config.identity_floor
        identity = losses.cosine_distance(other, found)
        identity = identity + 2 * losses.away_from(known, found, floor)
        terms = {
            "identity": weights.identity_swap * identity,
            "latent": weights.latent / 2 * losses.latent_change(s, current),
            "information": weights.information * lost,
            **self._identity_back(net, current, own, known),
        }
        names = [*hidden, *kept]
        for name, was, now in zip(names, wanted, judges.contents(after, names), strict=True):
            terms[name] = weights.contents * losses.content_cross_entropy(was, now)
        return terms

    def _identity_back(self, net: Passes, current: Tensor, f: Tensor, known: Tensor) -> Terms:
        weight = self.config.weights.identity_back
        if not weight:
            return {}
        back = _with_key(net, current, f, self.features[IDENTITY])
        found, _ = self.judges.identity(self.judges.picture(back))
        return {"identity_back": weight * losses.cosine_distance(known, found)}

    def _sampled_plan(self) -> tuple[list[str], list[str]]:
        """Which keywords a plan keeps, and which it hides besides the identity."""
        keywords, config = self.config.kept_keywords, self.config
        kept = [name for name in keywords if _chance(config.keep_probability)]
        if not config.hide_probability:  # draw nothing: seeds stay what they were without it
            return kept, []
        others = [name for name in keywords if name not in kept]
        return kept, [name for name in others if _chance(config.hide_probability)]

    def reorganized(
        self, net: Passes, s: Tensor, donor: Tensor, hidden: Sequence[str], kept: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The recurrence: the identity's feature of s, the end, and what was lost on the way.

        Identity and ``hidden`` get the key features of the donor, ``kept`` those of s. Whatever no
        step of the recurrence changes is computed in one pass.
        """
        names = [IDENTITY, *hidden, *kept]
        k = torch.stack([self.features[name] for name in (IDENTITY, *names)])
        k = k.repeat_interleave(len(s), dim=0)[:, None]
        sources = [s, donor, *[donor] * len(hidden), *[s] * len(kept)]
        f, r = net.disentangle(torch.cat(sources), k)
        own, first, *features = f.chunk(len(sources))
        lost, current = net.fuse(first, r[: len(s)], self.features[IDENTITY])
        lost_total = losses.information_lost(lost)
        for name, feature in zip(names[1:], features, strict=True):
            _, r = net.disentangle(current, self.features[name])
            lost, current = net.fuse(feature, r, self.features[name])
            lost_total = lost_total + losses.information_lost(lost)
        return own, current, lost_total


def _chance(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _with_key(net: Passes, changed: Tensor, f: Tensor, k: Tensor) -> Tensor:
    """A changed latent with the original's key feature ``f`` under the keyword ``k``."""
    _, r = net.disentangle(changed, k)
    return net.fuse(f, r, k)[1]


def _check_features(
    net: CDFNet, features: Mapping[str, Tensor], config: SwapTrainingConfig
) -> None:
    missing = [name for name in config.keyword_shares if name not in features]
    if missing:
        raise ConfigError(
            f"keyword_shares names {', '.join(missing)}, which the table of keywords lacks"
        )
    for name, feature in features.items():
        if feature.shape != (net.config.cond_dim,):
            raise ConfigError(
                f"the feature of '{name}' has the shape {tuple(feature.shape)}, but the network "
                f"takes ({net.config.cond_dim},); set cond_dim to the width of CLIP's features"
            )
