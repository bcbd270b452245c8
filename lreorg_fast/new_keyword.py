"""One more keyword for a finished bundle: what it would cost, the training, what it did cost.

Only CDFNet and the tables change. The verification limits do not depend on them, so they stay;
figures that were measured with the old network are left out of the new bundle.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.assembly import network_part, versions
from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import DEFAULT_KEEP, Keyword
from lreorg_fast.training.judges import LatentsConfig, WeightsJudges
from lreorg_fast.training.keyword_swap import (
    IDENTITY,
    KeywordSwap,
    LossWeights,
    SwapTrainingConfig,
)
from lreorg_fast.training.leakage import SwapFigures, swap_figures
from lreorg_fast.training.run import Say, format_seconds
from lreorg_fast.training.settings import settle
from lreorg_fast.training.tables import ClipKeywords, TableSizes, build_tables
from lreorg_fast.training.trainer import train_cdfnet
from lreorg_fast.weights.bundle import Bundle, check_bundle_folder, write_bundle
from lreorg_fast.weights.manifest import BundleManifest
from lreorg_fast.weights.parts import load_part

_SAME_TEXT = 0.999  # cosine of a keyword's feature by the bundle's CLIP and by the one given
_ALIKE = 0.999  # cosine above which two sentences are one to CLIP
_SEEN_PICTURES = 400
_CHUNK = 16
_TIMED_STEPS = 2


@dataclass(frozen=True)
class KeywordTraining:
    """How the bundle's CDFNet is trained on.

    Args:
        steps, batch, learning_rate: of :class:`~lreorg_fast.training.SwapTrainingConfig`; the
            rate is a part of the usual one, since the network is trained already.
        share: of the swaps that are of the new keyword; the others rehearse the old ones, which
            would be forgotten otherwise.
        sharpness: of CLIP's distributions; None for the model's own scale.
        seed: of all draws.
        people: on whom keywords are measured before and after.

    Raises:
        ConfigError: a number out of range.
    """

    steps: int = 1_000
    batch: int = 8
    learning_rate: float = 5e-5
    share: float = 0.4
    sharpness: float | None = None
    seed: int = 81
    people: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"share is {self.share}, but must be between 0 and 1")
        if self.people < 8 or self.seed < 0:
            raise ConfigError("people must be at least 8 and seed at least 0")

    def config(self, old: tuple[str, ...], new: str) -> SwapTrainingConfig:
        """The training of ``new`` among the keywords ``old``."""
        identity = 0.4 * (1 - self.share)
        others = [name for name in old if name != IDENTITY]
        rest = (1 - self.share - identity) / max(len(others), 1)
        shares = {IDENTITY: identity, **dict.fromkeys(others, rest), new: self.share}
        return SwapTrainingConfig(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weights=LossWeights(identity_kept=4.0, contents_kept=5.0),
            keyword_shares=shares,
            kept_keywords=(*(name for name in DEFAULT_KEEP if name in old), new),
            identity_floor=0.05,
            recurrence_every=3,
            gradient_limit=10.0,
            warm_up=min(100, self.steps),
            skip_limit=3,
            average=0.99,
            final_rate=0.05,
        )


def add_keyword(
    bundle: Bundle,
    keyword: Keyword,
    target: Path,
    work: Path,
    *,
    clip: Any,
    settings: KeywordTraining | None = None,
    tables: TableSizes | None = None,
    device: torch.device | str = "cpu",
    say: Say,
) -> Bundle:
    """Train ``bundle``'s CDFNet for one more keyword, and write a bundle that has it.

    Args:
        bundle: stays as it is.
        keyword: with contents, and a name that the bundle does not have.
        target: the new bundle; must not exist.
        work: folder of the training, which is resumed there.
        clip: the CLIP model that the bundle was built with
            (:func:`lreorg_fast.weights.load_clip`).
        settings, tables: how much is trained and sorted; the defaults if None.
        device: where it is trained.
        say: is told what it will cost, the progress, and what it did cost.

    Raises:
        ConfigError: a name that exists, contents that CLIP cannot tell apart or never sees, or
            another CLIP; said before the training.
        OutputError: the target exists or cannot be written.
        Interrupted: a signal; the same call goes on.
    """
    settings, tables = settings or KeywordTraining(), tables or TableSizes()
    check_bundle_folder(target.absolute(), overwrite=False)
    old = {known.name: known for known in bundle.manifest.keywords}
    _check_new(keyword, old)
    table = {**old, keyword.name: keyword}
    torch.manual_seed(settings.seed)
    generator: Any = load_part(bundle, "generator").to(device)
    judges = WeightsJudges(
        generator,
        load_part(bundle, "identity:training").to(device),
        clip.to(device),
        table,
        latents=LatentsConfig(row_noise=0.3),
        sharpness=settings.sharpness,
    )
    features = judges.keyword_features()
    _check_clip(bundle, features, old)
    seen = _told_apart(judges, keyword)
    for line in seen.lines(keyword):
        say(line)
    net: Any = load_part(bundle, "cdfnet").to(device)
    contents = [name for name, known in table.items() if known.contents]
    people = judges.latents(settings.people)
    before = swap_figures(net, judges, features, contents, people)
    config = settings.config(tuple(old), keyword.name)
    say(f"training takes about {_estimate(net, judges, features, config)}")
    _settle(work, bundle, keyword, settings)
    torch.manual_seed(settings.seed + 1)
    started = time.monotonic()
    trained = train_cdfnet(
        copy.deepcopy(net).requires_grad_(True), judges, features, config, work, say
    )
    trained = trained.requires_grad_(False).eval()
    after = swap_figures(trained, judges, features, contents, people)
    cost = {
        "keyword": dataclasses.asdict(keyword),
        "settings": dataclasses.asdict(settings),
        "pictures": seen.to_dict(),
        "people": settings.people,
        "before": _plain(before),
        "after": _plain(after),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    for line in cost_table(before, after):
        say(line)
    say("building tables")
    made = build_tables(
        tables, trained.cpu(), generator.cpu(), ClipKeywords(clip.to("cpu"), table), table
    )
    return _write(bundle, target, trained, made, table, json.loads(json.dumps(cost)))


def _check_new(keyword: Keyword, old: Mapping[str, Keyword]) -> None:
    if keyword.name in old:
        raise ConfigError(
            f"the bundle has a keyword '{keyword.name}' already; its keywords are {', '.join(old)}"
        )
    if not keyword.contents:
        raise ConfigError(f"the keyword '{keyword.name}' needs two contents or more to swap")
    if IDENTITY not in old:
        raise ConfigError(f"the bundle has no keyword '{IDENTITY}'; it cannot be trained on")


def _check_clip(bundle: Bundle, features: Mapping[str, Tensor], old: Mapping[str, Keyword]) -> None:
    kept = bundle.tensors("tables")
    for name in old:
        known, found = kept[f"keyword.{name}"].float(), features[name].cpu()
        same = known.shape == found.shape and float(F.cosine_similarity(known, found, 0))
        if not same or same < _SAME_TEXT:
            raise ConfigError(
                f"this CLIP model has another feature for '{name}' than the bundle; give the one "
                "that the bundle was built with"
            )


@dataclass(frozen=True)
class _Seen:
    """What CLIP makes of the contents on generated pictures."""

    shares: tuple[float, ...]
    margin: float  # mean difference of cosine between the best and the second content
    alike: float  # largest cosine between two sentences

    def lines(self, keyword: Keyword) -> list[str]:
        shares = ", ".join(
            f"{content} {share:.0%}"
            for content, share in zip(keyword.contents, self.shares, strict=True)
        )
        return [
            f"of {_SEEN_PICTURES} generated pictures CLIP calls: {shares}",
            f"its sentences have a cosine of {self.alike:.3f} at most, and the best one leads by "
            f"{self.margin:.4f} on average",
        ]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@torch.no_grad()
def _told_apart(judges: WeightsJudges, keyword: Keyword) -> _Seen:
    """Refuse contents that CLIP cannot tell apart: nothing could be learned of them."""
    text = judges.clip.text(list(keyword.sentences), normalize=True)
    alike = float((text @ text.t() - 2 * torch.eye(len(text), device=text.device)).max())
    if alike > _ALIKE:
        raise ConfigError(
            f"two sentences of '{keyword.name}' are one to this CLIP (cosine {alike:.4f}); word "
            "the contents or the template otherwise"
        )
    scores = []
    for part in judges.latents(_SEEN_PICTURES).split(_CHUNK):
        scores.append(judges.clip.image(judges.picture(part), normalize=True) @ text.t())
    best = torch.cat(scores).topk(2, dim=1)
    labels = best.indices[:, 0]
    shares = tuple(float((labels == i).float().mean()) for i in range(len(text)))
    for content, share in zip(keyword.contents, shares, strict=True):
        if share == 0:
            raise ConfigError(
                f"CLIP calls none of {_SEEN_PICTURES} generated pictures '{content}', so there is "
                f"nothing to learn '{keyword.name}' from; word it otherwise, or choose what the "
                "generator can show"
            )
    margin = float((best.values[:, 0] - best.values[:, 1]).mean())
    return _Seen(shares, margin, alike)


def _estimate(
    net: CDFNet, judges: WeightsJudges, features: Mapping[str, Tensor], config: SwapTrainingConfig
) -> str:
    swap = KeywordSwap(copy.deepcopy(net).requires_grad_(True), judges, features, config)
    with torch.random.fork_rng(devices=[]):
        swap.step(0)[1].backward()
        start = time.monotonic()
        for index in range(_TIMED_STEPS):
            swap.step(index)[1].backward()
    return format_seconds((time.monotonic() - start) / _TIMED_STEPS * config.steps)


def _settle(work: Path, bundle: Bundle, keyword: Keyword, settings: KeywordTraining) -> None:
    """What is resumed must be what was begun."""
    new = {
        "keyword": dataclasses.asdict(keyword),
        "settings": dataclasses.asdict(settings),
        "cdfnet": bundle.manifest.files[bundle.part("cdfnet").file].sha256,
    }
    work.mkdir(parents=True, exist_ok=True)
    settle(work / "settings.json", json.loads(json.dumps(new)))


def _plain(figures: Mapping[str, SwapFigures]) -> dict[str, Any]:
    return {name: dataclasses.asdict(figure) for name, figure in figures.items()}


def cost_table(before: Mapping[str, SwapFigures], after: Mapping[str, SwapFigures]) -> list[str]:
    """Each keyword before and after as Markdown: identity kept, content followed, others kept."""
    lines = [
        "| swapped | like itself | before | follows the donor | before | others stay | before |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, now in after.items():
        was = before[name]
        cells = [
            f"{now.similarity:.3f}",
            f"{was.similarity:.3f}",
            *("" if x is None else f"{x:.3f}" for x in (now.follows, was.follows)),
            *(f"{sum(x.stays.values()) / max(len(x.stays), 1):.3f}" for x in (now, was)),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _write(
    bundle: Bundle,
    target: Path,
    net: CDFNet,
    tables: dict[str, Tensor],
    keywords: Mapping[str, Keyword],
    cost: dict[str, Any],
) -> Bundle:
    old = bundle.manifest
    part, tensors = network_part("cdfnet", net)
    part = dataclasses.replace(part, file=old.parts["cdfnet"].file)
    files: dict[str, Mapping[str, Tensor] | bytes] = {name: bundle.read(name) for name in old.files}
    files[part.file] = tensors
    files[old.parts["tables"].file] = tables
    earlier = list(old.recipe.get("added_keywords", ()))
    manifest = BundleManifest(
        name=old.name,
        license=old.license,
        domain=old.domain,
        parts={**old.parts, "cdfnet": part},
        keywords=tuple(keywords.values()),
        calibration=old.calibration,
        recipe={**old.recipe, "added_keywords": [*earlier, cost]},
    )
    return write_bundle(target, manifest, files)
