"""The figures of the demo: protection, usefulness and reversal on avatars nobody trained on.

They show that the system works on avatars. They say nothing about photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.avatars import Avatars, render, sample_people
from lreorg_fast.demo.judge import FIRST, Floats, Judge, present
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
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_pictures, to_tensor
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.result import Result
from lreorg_fast.settings import DEFAULT_ATTRIBUTE_RULE

_CHUNK = 32
# Seeds of training are below 1,000, so people drawn from here on are in no training set.
UNSEEN = 1_000_000
PAPER_RULE = "farthest"
Named = tuple[str, Figure]
Section = Callable[[], Iterator[Named]]
# Methods that recover nothing, and this one without its recovery.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "k-anonymity": {"mechanism": "k-anonymity"},
    "laplace": {"mechanism": "laplace", "epsilon": 1.0},
}
NOT_RECOVERED = "not recovered"
BASELINES: Mapping[str, Mapping[str, Any]] = {**METHODS, NOT_RECOVERED: {}}


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
    """``count`` people who are in no training set."""
    avatars = sample_people(count, 2, torch.Generator().manual_seed(UNSEEN + seed))
    rendered = (render(avatars, size) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pictures = [np.ascontiguousarray(picture) for picture in rendered]
    return People(avatars, pictures[::2], pictures[1::2])


class Measurement:
    """All figures for one anonymizer and one set of people.

    PSR, similarity and ranks are over the faces that were released; a filled face counts as not
    detected and as not preserved. Where an attribute is hidden alone, a filled face is read as
    the solid picture that it is.
    """

    def __init__(self, anonymizer: Anonymizer, people: People, recognizer: str = FIRST) -> None:
        self.anonymizer = anonymizer
        self.people = people
        self.judge = Judge(anonymizer.bundle, recognizer)
        self.random, self.hard = self.judge.random, self.judge.hard

    def judged_by(self, recognizer: str) -> Measurement:
        """The same people and the same draw, looked at by another recognizer."""
        other = Measurement(self.anonymizer, self.people, recognizer)
        vars(other).update(default=self.default, latents=self.latents, rebuilt=self.rebuilt)
        return other

    @cached_property
    def others(self) -> Floats:
        return self.judge.embed(self.people.others)

    @cached_property
    def default(self) -> Result:
        """The default setting, once, with recovery keys."""
        return self.anonymizer(self.people.probes, recovery=True)

    @cached_property
    def latents(self) -> Tensor:
        """What the encoder makes of the probes, ``(N, rows, dim)``."""
        return encoded(self.anonymizer, self.people.probes)

    @cached_property
    def rebuilt(self) -> list[Picture]:
        """The probes through encoder and generator only."""
        return rendered(self.anonymizer, self.latents)

    @cached_property
    def probes(self) -> Floats:
        """Embeddings of the pictures that are anonymized, ``(N, D)``."""
        return self.judge.embed(self.people.probes)

    def quick(self) -> Iterator[Named]:
        """What ``lreorg demo`` shows."""
        yield from self._recognizer()
        yield from self._reconstruction()
        yield from self.protection("default", self.default)
        yield from self.preservation("default", self.default, DEFAULT_KEEP)
        yield from self._identity_recovery()

    def identification(self) -> Iterator[Named]:
        """The figures of :meth:`quick` that are the recognizer's."""
        yield from self._recognizer()
        yield from self._reconstruction()
        yield from self.recognition("default", self.default)
        yield from self._identity_recovery()

    def sections(self) -> dict[str, Section]:
        """Everything of :meth:`quick`, the baselines, and every keyword by itself."""
        return {
            "default": self.quick,
            **{
                name: partial(self.anonymized, name, keep=(), **settings)
                for name, settings in BASELINES.items()
            },
            **{f"hide {name} alone": partial(self._hidden_alone, name) for name in DEFAULT_KEEP},
            **{
                f"swap {name} alone": partial(self._swapped_alone, name)
                for name in (*DEFAULT_HIDE, *DEFAULT_KEEP)
            },
        }

    def hiding_sections(self) -> dict[str, Section]:
        """An attribute hidden beside the identity, by the default rule and by the paper's."""
        return {
            f"hide identity and {name} ({rule})": partial(self._hidden_too, name, rule)
            for rule in (DEFAULT_ATTRIBUTE_RULE, PAPER_RULE)
            for name in DEFAULT_KEEP
        }

    def thorough(self) -> Iterator[Named]:
        """The figures of all :meth:`sections` and :meth:`hiding_sections`."""
        for section in (*self.sections().values(), *self.hiding_sections().values()):
            yield from section()

    # ---- the parts

    def anonymized(self, name: str, **settings: Any) -> Iterator[Named]:
        """Protection and preservation under other settings of the anonymizer."""
        result = self.anonymizer(self.people.probes, **settings)
        yield from self.protection(name, result)
        yield from self.preservation(name, result, DEFAULT_KEEP)

    def protection(self, name: str, result: Result) -> Iterator[Named]:
        """What a recognizer still finds of the people."""
        replaced = _replaced(result)
        yield f"{name}: filled", share_figure(~replaced)
        _, faces = self.judge.read(result.images)
        yield f"{name}: face detected", share_figure(faces & replaced)
        yield from self.recognition(name, result)

    def recognition(self, name: str, result: Result) -> Iterator[Named]:
        """How like the people, and how like strangers, the released faces are."""
        kept = np.flatnonzero(_replaced(result))
        if len(kept) < 2:
            return
        similarity = self._similarity(result, kept)
        own = similarity[np.arange(len(kept)), kept]
        yield from self._recognized(name, own)
        strangers = (similarity.sum(axis=1) - own) / (similarity.shape[1] - 1)
        yield f"{name}: similarity to strangers", mean_figure(strangers)
        yield f"{name}: person ranked first", rank_first_rate(similarity, kept)
        yield f"{name}: person ranked last", rank_last_rate(similarity, kept)

    def preservation(self, name: str, result: Result, kept: Sequence[str]) -> Iterator[Named]:
        """Which of the attributes ``kept`` the results show as the people really have them."""
        values, _ = self.judge.read(result.images)
        same = (present(values, kept) == self.people.truth(kept)) & _replaced(result)[:, None]
        for i, keyword in enumerate(kept):
            yield f"{name}: {keyword} preserved", share_figure(same[:, i])
        yield f"{name}: mean preserved", mean_figure(same.mean(axis=1))

    def restored(self, count: int) -> list[Picture]:
        """The first ``count`` faces of the default setting, reversed with their keys."""
        return reversed_with_keys(self.anonymizer, self.default, count)

    def _similarity(self, result: Result, kept: NDArray[np.int64]) -> Floats:
        """Of the results ``kept`` to everybody's other picture, ``(len(kept), N)``."""
        return cosine_similarity(self.judge.embed([result.images[i] for i in kept]), self.others)

    def _recognized(self, name: str, own: Floats) -> Iterator[Named]:
        yield f"{name}: PSR (random)", protection_success_rate(own, self.random)
        yield f"{name}: PSR (hard)", protection_success_rate(own, self.hard)
        yield f"{name}: similarity to the person", mean_figure(own)

    def _genuine(self, pictures: Sequence[Picture]) -> Floats:
        """Similarity of each picture to another picture of the same person."""
        return paired(self.judge.embed(pictures), self.others)

    def _recognizer(self) -> Iterator[Named]:
        scores = paired(self.probes, self.others)
        yield "original: recognised (random)", true_accept_rate(scores, self.random)
        yield "original: recognised (hard)", true_accept_rate(scores, self.hard)

    def _reconstruction(self) -> Iterator[Named]:
        same = paired(self.judge.embed(self.rebuilt), self.probes)
        yield "reconstruction: same person", true_accept_rate(same, self.random)
        other = self._genuine(self.rebuilt)
        yield "reconstruction: recognised", true_accept_rate(other, self.random)

    def _identity_recovery(self) -> Iterator[Named]:
        found = self.judge.embed(self.restored(len(self.people)))
        same = paired(found, self.probes)
        yield "reversed with the key: same person", true_accept_rate(same, self.random)
        other = paired(found, self.others)
        yield "reversed with the key: recognised", true_accept_rate(other, self.random)

    def _hidden_alone(self, name: str) -> Iterator[Named]:
        """One attribute hidden by the paper's rule, everything else as the network leaves it."""
        result = self.anonymizer(
            self.people.probes,
            hide=[name],
            keep=(),
            attribute_rule=PAPER_RULE,
            recovery=True,
        )
        before, _ = self.judge.read(self.people.probes)
        after, _ = self.judge.read(result.images)
        others = [k for k in DEFAULT_KEEP if k != name]
        changed = present(after, [name])[:, 0] != present(before, [name])[:, 0]
        yield f"hide {name} alone: changed", share_figure(changed)
        stayed = present(after, others) == present(before, others)
        yield f"hide {name} alone: others stay", mean_figure(stayed.mean(axis=1))
        back, _ = self.judge.read(reversed_with_keys(self.anonymizer, result, len(before)))
        recovered = present(back, [name])[:, 0] == present(before, [name])[:, 0]
        yield f"hide {name} alone: back with the key", share_figure(recovered)
        kept = np.flatnonzero(_replaced(result))
        if len(kept) > 1:
            own = self._similarity(result, kept)[np.arange(len(kept)), kept]
            yield from self._recognized(f"hide {name} alone", own)

    def _hidden_too(self, name: str, rule: str) -> Iterator[Named]:
        """One attribute hidden beside the identity, the others kept: what a user would ask for."""
        label = f"hide identity and {name} ({rule})"
        others = [keyword for keyword in DEFAULT_KEEP if keyword != name]
        result = self.anonymizer(
            self.people.probes, hide=[*DEFAULT_HIDE, name], keep=others, attribute_rule=rule
        )
        values, _ = self.judge.read(result.images)
        right = present(values, DEFAULT_KEEP) == self.people.truth(DEFAULT_KEEP)
        released = _replaced(result)
        own = DEFAULT_KEEP.index(name)
        yield f"{label}: filled", share_figure(~released)
        if not released.any():
            return
        yield f"{label}: {name} still right", share_figure(right[released, own])
        kept = (right & released[:, None])[:, [DEFAULT_KEEP.index(o) for o in others]]
        yield f"{label}: others preserved", mean_figure(kept.mean(axis=1))

    def _swapped_alone(self, name: str) -> Iterator[Named]:
        """One key feature from somebody else: what else comes along, which is what it leaks.

        Compared with the face as encoder and generator make it, so that only CDFNet is measured.
        """
        label = f"swap {name} alone"
        swapped = swapped_with_next(self.anonymizer, self.latents, name)
        mine, found = self.judge.embed(self.rebuilt), self.judge.embed(swapped)
        own = paired(found, mine)
        yield f"{label}: similarity to the same face", mean_figure(own)
        yield f"{label}: similarity to the donor", mean_figure(paired(found, _next(mine)))
        yield f"{label}: same person", true_accept_rate(own, self.random)
        values, _ = self.judge.read(self.rebuilt)
        before, after = (present(v, DEFAULT_KEEP) for v in (values, self.judge.read(swapped)[0]))
        donor = _next(before)
        others = [i for i, keyword in enumerate(DEFAULT_KEEP) if keyword != name]
        for i, keyword in enumerate(DEFAULT_KEEP):
            if i in others:
                yield f"{label}: {keyword} stays", share_figure(after[:, i] == before[:, i])
                continue
            differs = before[:, i] != donor[:, i]
            if differs.any():
                follows = after[differs, i] == donor[differs, i]
                yield f"{label}: {keyword} follows the donor", share_figure(follows)
        stayed = (after == before)[:, others]
        yield f"{label}: others stay", mean_figure(stayed.mean(axis=1))


def _replaced(result: Result) -> NDArray[np.bool_]:
    return np.array([face.status == "replaced" for face in result.faces])


def paired(found: Floats, wanted: Floats) -> Floats:
    """Cosine of each row with the other's row, ``(N, D)`` twice -> ``(N,)``."""
    similarity: Floats = (found * wanted).sum(axis=1)
    return similarity


def _next(rows: NDArray[Any]) -> NDArray[Any]:
    """What the next person has: the donor of :func:`swapped_with_next`."""
    return np.roll(rows, -1, axis=0)


def encoded(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Tensor:
    """Latents ``(N, rows, dim)`` of pictures at the encoder's size."""
    starts = range(0, len(pictures), _CHUNK)
    with torch.inference_mode():
        return torch.cat(
            [
                anonymizer.encoder(
                    to_tensor(pictures[start : start + _CHUNK]).to(anonymizer.device)
                )
                for start in starts
            ]
        )


def rendered(anonymizer: Anonymizer, latents: Tensor) -> list[Picture]:
    """Pictures of latents ``(N, rows, dim)``."""
    pictures: list[Picture] = []
    with torch.inference_mode():
        for part in latents.split(_CHUNK):
            pictures += to_pictures(anonymizer.generator.synthesis(part))
    return pictures


def reconstruct(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> list[Picture]:
    """Through encoder and generator only: what the networks can represent."""
    return rendered(anonymizer, encoded(anonymizer, pictures))


def swapped_with_next(anonymizer: Anonymizer, latents: Tensor, keyword: str) -> list[Picture]:
    """Each face with the key feature of the next one under ``keyword``, the rest its own."""
    with torch.inference_mode():
        features, _ = anonymizer.engine.disentangle(latents, keyword)
        donor = features.roll(-1, dims=0)
        return rendered(anonymizer, anonymizer.engine.reorganize(latents, {keyword: donor}, []))


def reversed_with_keys(anonymizer: Anonymizer, result: Result, count: int) -> list[Picture]:
    """The first ``count`` results, reversed with their keys where there is something to reverse."""
    pairs = list(zip(result.images, result.faces, strict=True))[:count]
    return [
        image
        if face.recovery_key is None or face.status == "filled"
        else anonymizer.restore(image, face.recovery_key)
        for image, face in pairs
    ]
