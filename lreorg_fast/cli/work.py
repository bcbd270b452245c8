"""From the options of ``lreorg anonymize`` to the work on a picture: checked, then loaded."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lreorg_fast.cli.release import Release
from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.batch import SceneWork, Work
    from lreorg_fast.faces import Detection, Detector
    from lreorg_fast.media.pictures import Picture
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.privacy import Ledger, Subjects
    from lreorg_fast.scene import SceneSettings
    from lreorg_fast.scene.attributes import PhotographAttributes
    from lreorg_fast.sealing import Sealer

_SETTINGS = ("hide", "keep", "epsilon", "mechanism", "attribute_rule", "attribute_epsilon")
# Options that need a part of the work which a method or a kind of picture does not have.
_OF_NETWORKS = (
    *("bundle", "device", "backend", "dtype", "precision", "budget", "ledger"),
    *("person", "person_per_folder", "people", "pseudonyms", "context"),
)
_OF_SCENES = (
    "detector",
    "detector_kind",
    "longest_side",
    "threshold",
    "feather",
    "no_colour_match",
    "allow_no_face",
    "clip",
)


@dataclass(frozen=True)
class Choices:
    """The options, as the command has them; None is the default of what they are for."""

    method: str
    faces: str
    hide: tuple[str, ...] | None
    keep: tuple[str, ...] | None
    epsilon: float | None
    mechanism: str | None
    attribute_rule: str | None
    attribute_epsilon: float | None
    clip: str | None
    detector: str
    detector_kind: str | None
    longest_side: int | None
    threshold: float | None
    feather: float | None
    no_colour_match: bool
    allow_no_face: bool
    face_timeout: float
    bundle: str
    device: str
    backend: str
    dtype: str
    precision: str
    release: Release


def make_work(choices: Choices, given: Collection[str], workers: int) -> Work:
    """``given``: names of the options that were named.

    Raises:
        LReorgError: options that contradict each other or have no effect; whatever loading raises.
    """
    from lreorg_fast.batch import AlignedWork, AutoWork, SceneWork
    from lreorg_fast.scene import SceneAnonymizer
    from lreorg_fast.time_limit import TimeLimit

    limit = TimeLimit(choices.face_timeout)
    covers = _refuse_for_covers(choices, given)
    aligned = _only_aligned(choices, given)
    _refuse_for_avatars(choices)
    if choices.detector_kind is not None and "detector" not in given:
        raise ConfigError("--detector-kind has no effect without --detector FILE; leave it out")
    scene_settings = _scene_settings(choices)
    sealer, ledger, subjects = _opened(choices, covers)
    anonymizer = None if ledger is None else _anonymizer(choices, ledger)
    if aligned:
        assert anonymizer is not None
        return AlignedWork(anonymizer, scene_settings.settings, subjects, sealer, limit)
    attributes = _attributes(choices, anonymizer)
    detector = _Lazy(choices, max(1, (os.cpu_count() or 1) // max(1, workers)))
    if choices.faces == "scene" or "detector" in given or anonymizer is None:
        detector.load()
    recovery = sealer is not None and sealer.recovery
    scene = SceneAnonymizer(
        anonymizer, detector, scene_settings, attributes, recovery=recovery, limit=limit
    )
    described = {
        name: getattr(choices, name)
        for name in ("detector", "detector_kind", "longest_side", "clip")
    }
    whole = SceneWork(scene, choices.allow_no_face, described, subjects, sealer)
    if choices.faces == "scene" or choices.method != "reorganize" or anonymizer is None:
        return whole
    aligned_work = AlignedWork(anonymizer, scene_settings.settings, whole.subjects, sealer, limit)
    return AutoWork(aligned_work, whole)


@dataclass(frozen=True)
class SceneParts:
    """What videos need, whose frames are scenes."""

    anonymizer: Anonymizer | None
    detector: Detector
    settings: SceneSettings
    attributes: PhotographAttributes | None
    subjects: Subjects | None
    sealer: Sealer | None


def make_scene(choices: Choices, given: Collection[str], sources: Iterable[Path]) -> SceneParts:
    """Arguments and errors as :func:`make_work`; ``sources`` are all inputs."""
    covers = _refuse_for_covers(choices, given)
    _refuse_for_avatars(choices)
    if choices.detector_kind is not None and "detector" not in given:
        raise ConfigError("--detector-kind has no effect without --detector FILE; leave it out")
    settings = _scene_settings(choices)
    sealer, ledger, subjects = _opened(choices, covers)
    if subjects is not None:
        subjects.check(sources)
    anonymizer = None if ledger is None else _anonymizer(choices, ledger)
    attributes = _attributes(choices, anonymizer)
    detector = _Lazy(choices, os.cpu_count() or 1).load()
    return SceneParts(anonymizer, detector, settings, attributes, subjects, sealer)


def _opened(choices: Choices, covers: bool) -> tuple[Sealer | None, Ledger | None, Subjects | None]:
    """What was named for the release, before networks are loaded: a misspelt file costs no time."""
    sealer = choices.release.open_sealer()
    if covers:
        return sealer, None, None
    ledger = choices.release.open_ledger()
    return sealer, ledger, choices.release.open_subjects(ledger)


def scene_work_of(work: Work) -> SceneWork | None:
    """What is done to whole pictures, and so to the frames of videos; None for aligned faces."""
    from lreorg_fast.batch import AutoWork, SceneWork

    whole = work.whole if isinstance(work, AutoWork) else work
    return whole if isinstance(whole, SceneWork) else None


def _refuse_for_covers(choices: Choices, given: Collection[str]) -> bool:
    """Whether the method covers faces, without networks, draws or people."""
    covers = choices.method in ("pixelate", "fill")
    if covers:
        refuse(given, _OF_NETWORKS, f"with the method '{choices.method}', which needs no networks")
    return covers


def _only_aligned(choices: Choices, given: Collection[str]) -> bool:
    """Whether no whole picture can be among the inputs.

    Raises:
        ConfigError: options of whole pictures and of aligned faces were named together.
    """
    if choices.faces == "aligned":
        if choices.method != "reorganize":
            raise ConfigError(
                f"the method '{choices.method}' is for scenes; leave out '--faces aligned'"
            )
        refuse(given, _OF_SCENES, "with aligned faces, which are not looked for")
        return True
    return False


def _refuse_for_avatars(choices: Choices) -> None:
    """Raises ConfigError for pseudonyms with a method that does not draw from their keys."""
    if choices.method == "avatar" and choices.release.pseudonyms is not None:
        raise ConfigError(
            "--pseudonyms is for the method 'reorganize': an avatar is not drawn from a key; leave "
            "it out, or name people for one avatar each in this run"
        )


def _scene_settings(choices: Choices) -> SceneSettings:
    from lreorg_fast.scene import SceneSettings

    names = ("method", *_SETTINGS, "threshold", "feather")
    values: dict[str, Any] = {name: getattr(choices, name) for name in names}
    values["mechanism"] = choices.mechanism or choices.release.mechanism
    known = {name: value for name, value in values.items() if value is not None}
    return SceneSettings(**known, colour_match=not choices.no_colour_match)


def _anonymizer(choices: Choices, ledger: Ledger) -> Anonymizer:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.privacy.randomness import refuse_insecure_environment

    refuse_insecure_environment()
    return Anonymizer.load(
        choices.bundle,
        device=choices.device,
        backend=choices.backend,
        dtype=choices.dtype,
        precision=choices.precision,
        ledger=ledger,
    )


def _attributes(choices: Choices, anonymizer: Anonymizer | None) -> PhotographAttributes | None:
    if choices.clip is None or anonymizer is None:
        if choices.clip is not None:
            raise ConfigError(
                f"--clip has no effect with the method '{choices.method}'; it is for 'avatar'"
            )
        return None
    from lreorg_fast.scene.attributes import PhotographAttributes
    from lreorg_fast.sources import clip_of

    photographs = clip_of(anonymizer.bundle, choices.clip)
    portraits = clip_of(anonymizer.bundle, None)
    return PhotographAttributes(photographs, portraits, anonymizer.keywords)


def refuse(given: Collection[str], names: Collection[str], where: str) -> None:
    """Raises ConfigError for the first of ``names`` that was named."""
    for name in names:
        if name in given:
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"{option} has no effect {where}; leave it out")


class _Lazy:
    """A detector that is opened for the first scene: aligned faces need none, nor its packages."""

    def __init__(self, choices: Choices, threads: int) -> None:
        self._choices, self._threads = choices, threads
        self._lock = threading.Lock()
        self._detector: Detector | None = None

    def load(self) -> Detector:
        """Raises what :func:`lreorg_fast.faces.load_detector` raises."""
        from lreorg_fast.faces import load_detector

        with self._lock:
            if self._detector is None:
                self._detector = load_detector(
                    self._choices.detector,
                    self._choices.detector_kind,
                    self._choices.longest_side,
                    self._threads,
                )
            return self._detector

    def __call__(self, picture: Picture, threshold: float) -> list[Detection]:
        return self.load()(picture, threshold)
