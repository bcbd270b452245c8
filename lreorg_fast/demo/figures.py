"""The figures of the demo: protection, usefulness and reversal on avatars nobody trained on.

They show that the system works on avatars. They say nothing about photographs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lreorg_fast.avatars import Avatars, render, sample_people
from lreorg_fast.demo.judge import Floats, Judge, present
from lreorg_fast.evaluation import (
    Figure,
    cosine_similarity,
    mean_figure,
    protection_success_rate,
    rank_first_rate,
    rank_last_rate,
    share_figure,
    true_accept_rate,
)
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_pictures, to_tensor
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.result import Result

_CHUNK = 32
Named = tuple[str, Figure]
# Methods that recover nothing, and this one without its recovery.
BASELINES: dict[str, dict[str, Any]] = {
    "k-anonymity": {"mechanism": "k-anonymity"},
    "laplace": {"mechanism": "laplace", "epsilon": 1.0},
    "not recovered": {},
}


@dataclass(frozen=True)
class People:
    """Two pictures each of unseen people: ``probes`` are anonymized, ``others`` stay."""

    avatars: Avatars
    probes: list[Picture]
    others: list[Picture]

    def __len__(self) -> int:
        return len(self.probes)

    def truth(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Which attributes the probes really have, ``(N, len(names))``."""
        return present(self.avatars.labels()[::2].double().numpy(), names)


def draw_people(count: int, seed: int, size: int) -> People:
    """``count`` people who are in no training set (seeds of training are below 1,000)."""
    avatars = sample_people(count, 2, torch.Generator().manual_seed(1_000_000 + seed))
    rendered = (render(avatars, size) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pictures = [np.ascontiguousarray(picture) for picture in rendered]
    return People(avatars, pictures[::2], pictures[1::2])


class Measurement:
    """All figures for one anonymizer and one set of people.

    PSR, similarity and ranks are over the faces that were released; a filled face counts as not
    detected and as not preserved. Where an attribute is hidden alone, a filled face is read as
    the solid picture that it is.
    """

    def __init__(self, anonymizer: Anonymizer, people: People) -> None:
        self.anonymizer = anonymizer
        self.people = people
        self.judge = Judge(anonymizer.bundle)
        self.random = anonymizer.bundle.calibrated("evaluation.threshold.random")
        self.hard = anonymizer.bundle.calibrated("evaluation.threshold.hard")

    @cached_property
    def others(self) -> Floats:
        return self.judge.embed(self.people.others)

    @cached_property
    def default(self) -> Result:
        """The default setting, once, with recovery keys."""
        return self.anonymizer(self.people.probes, recovery=True)

    def quick(self) -> Iterator[Named]:
        """What ``lreorg demo`` shows."""
        yield from self._recognizer()
        yield from self._reconstruction()
        yield from self._protection("default", self.default)
        yield from self._preservation("default", self.default, DEFAULT_KEEP)
        yield from self._identity_recovery()

    def thorough(self) -> Iterator[Named]:
        """Everything of :meth:`quick`, the baselines, and every attribute by itself."""
        yield from self.quick()
        for name, settings in BASELINES.items():
            result = self.anonymizer(self.people.probes, keep=(), **settings)
            yield from self._protection(name, result)
            yield from self._preservation(name, result, DEFAULT_KEEP)
        for name in DEFAULT_KEEP:
            yield from self._hidden_alone(name)

    # ---- the parts

    def _genuine(self, pictures: Sequence[Picture]) -> Floats:
        """Similarity of each picture to another picture of the same person."""
        found = self.judge.embed(pictures)
        similarity: Floats = (found * self.others).sum(axis=1)
        return similarity

    def _recognizer(self) -> Iterator[Named]:
        scores = self._genuine(self.people.probes)
        yield "original: recognised (random)", true_accept_rate(scores, self.random)
        yield "original: recognised (hard)", true_accept_rate(scores, self.hard)

    def _reconstruction(self) -> Iterator[Named]:
        rebuilt = reconstruct(self.anonymizer, self.people.probes)
        same = (self.judge.embed(rebuilt) * self.judge.embed(self.people.probes)).sum(axis=1)
        yield "reconstruction: same person", true_accept_rate(same, self.random)
        other = self._genuine(rebuilt)
        yield "reconstruction: recognised", true_accept_rate(other, self.random)

    def _protection(self, name: str, result: Result) -> Iterator[Named]:
        replaced = np.array([face.status == "replaced" for face in result.faces])
        yield f"{name}: filled", share_figure(~replaced)
        _, faces = self.judge.read(result.images)
        yield f"{name}: face detected", share_figure(faces & replaced)
        kept = np.flatnonzero(replaced)
        if len(kept) < 2:
            return
        found = self.judge.embed([result.images[i] for i in kept])
        similarity = cosine_similarity(found, self.others)
        own = similarity[np.arange(len(kept)), kept]
        yield f"{name}: PSR (random)", protection_success_rate(own, self.random)
        yield f"{name}: PSR (hard)", protection_success_rate(own, self.hard)
        yield f"{name}: similarity to the person", mean_figure(own)
        strangers = (similarity.sum(axis=1) - own) / (similarity.shape[1] - 1)
        yield f"{name}: similarity to strangers", mean_figure(strangers)
        yield f"{name}: person ranked first", rank_first_rate(similarity, kept)
        yield f"{name}: person ranked last", rank_last_rate(similarity, kept)

    def _preservation(self, name: str, result: Result, kept: Sequence[str]) -> Iterator[Named]:
        values, _ = self.judge.read(result.images)
        replaced = np.array([face.status == "replaced" for face in result.faces])
        same = (present(values, kept) == self.people.truth(kept)) & replaced[:, None]
        for i, keyword in enumerate(kept):
            yield f"{name}: {keyword} preserved", share_figure(same[:, i])
        yield f"{name}: mean preserved", mean_figure(same.mean(axis=1))

    def _identity_recovery(self) -> Iterator[Named]:
        restored = self._restored(self.default, len(self.people))
        yield (
            "reversed with the key: recognised",
            true_accept_rate(self._genuine(restored), self.random),
        )

    def restored(self, count: int) -> list[Picture]:
        """The first ``count`` faces of the default setting, reversed with their keys."""
        return self._restored(self.default, count)

    def _restored(self, result: Result, count: int) -> list[Picture]:
        pairs = list(zip(result.images, result.faces, strict=True))[:count]
        return [
            image
            if face.recovery_key is None or face.status == "filled"
            else self.anonymizer.restore(image, face.recovery_key)
            for image, face in pairs
        ]

    def _hidden_alone(self, name: str) -> Iterator[Named]:
        """One attribute hidden by the paper's rule, everything else as the network leaves it."""
        result = self.anonymizer(
            self.people.probes,
            hide=[name],
            keep=(),
            attribute_rule="farthest",
            recovery=True,
        )
        before, _ = self.judge.read(self.people.probes)
        after, _ = self.judge.read(result.images)
        others = [k for k in DEFAULT_KEEP if k != name]
        changed = present(after, [name])[:, 0] != present(before, [name])[:, 0]
        yield f"hide {name} alone: changed", share_figure(changed)
        stayed = present(after, others) == present(before, others)
        yield f"hide {name} alone: others stay", mean_figure(stayed.mean(axis=1))
        back, _ = self.judge.read(self._restored(result, len(result.faces)))
        recovered = present(back, [name])[:, 0] == present(before, [name])[:, 0]
        yield f"hide {name} alone: back with the key", share_figure(recovered)


def reconstruct(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> list[Picture]:
    """Through encoder and generator only: what the networks can represent."""
    rebuilt: list[Picture] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), _CHUNK):
            batch = to_tensor(pictures[start : start + _CHUNK]).to(anonymizer.device)
            rebuilt += to_pictures(anonymizer.generator.synthesis(anonymizer.encoder(batch)))
    return rebuilt
