"""From the options of ``lreorg evaluate`` to who is judged, by whom, on what."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lreorg_fast.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from lreorg_fast.evaluation.contenders import Contender
    from lreorg_fast.evaluation.folders import FolderCollection
    from lreorg_fast.evaluation.judging import Keep, MakeAttackers
    from lreorg_fast.evaluation.methods import Method
    from lreorg_fast.evaluation.observing import MakeJudges
    from lreorg_fast.evaluation.protocol import Collection as Originals
    from lreorg_fast.faces import Detector
    from lreorg_fast.pipeline import Anonymizer

AVATARS, PHOTOGRAPHS = "avatars", "photographs"
CACHE = "cache"
_TRAINING = (150, 4)  # avatars whom attackers learn from, and pictures of each
_TRAINING_SEED = 1_000_000
_OF_AVATARS = ("people", "pictures", "seed")
_OF_FOLDERS = ("identities", "judges", "allow_missing", "faces")
_OF_PHOTOGRAPHS = ("recognizer", "clip", "inception", "detector")


@dataclass(frozen=True)
class Entry:
    """The options, as the command has them."""

    folders: tuple[Path, ...]
    demo: bool
    methods: tuple[str, ...]
    identities: Path | None
    judges: str
    faces: str | None
    allow_missing: bool
    people: int
    pictures: int
    seed: int
    bundle: str
    recognizers: tuple[str, ...]
    clip: tuple[str, str] | None
    inception: str | None
    detector: str
    device: str


@dataclass(frozen=True, eq=False)
class Contest:
    """What :func:`make_contest` made.

    Attributes:
        originals: who is on the pictures.
        contenders: in the order of the tables.
        make_judges: picklable.
        training, make_attackers: see :func:`lreorg_fast.evaluation.run.evaluate`.
    """

    originals: Originals
    contenders: Sequence[Contender]
    make_judges: MakeJudges
    training: Originals | None = None
    make_attackers: MakeAttackers | None = None


def make_contest(entry: Entry, given: Collection[str]) -> Contest:
    """``given``: names of the options that were named.

    Raises:
        LReorgError: options that contradict each other or have no effect; whatever opening raises.
    """
    if entry.demo:
        return _demo(entry, given)
    if not entry.folders:
        raise ConfigError(
            "nothing is evaluated: name the folder of the originals and those of outputs, or "
            "--demo for avatars"
        )
    return _folders(entry, given)


def _demo(entry: Entry, given: Collection[str]) -> Contest:
    from lreorg_fast.cli.work import refuse
    from lreorg_fast.demo.evaluating import (
        DEMO_METHODS,
        AvatarCollection,
        avatar_attackers,
        avatar_judges,
    )

    if entry.folders:
        raise ConfigError(f"--demo draws its own originals; leave '{entry.folders[0]}' out")
    refuse(given, (*_OF_FOLDERS, *_OF_PHOTOGRAPHS), "with --demo")
    collection = AvatarCollection(entry.people, entry.pictures, entry.seed)
    # Other people: seeds that no --seed reaches.
    training = AvatarCollection(*_TRAINING, _TRAINING_SEED + entry.seed)
    names = entry.methods or DEMO_METHODS
    contenders = _methods(names, entry, "aligned", "--demo")
    make_judges = partial(avatar_judges, entry.bundle)
    return Contest(collection, contenders, make_judges, training, avatar_attackers)


def _folders(entry: Entry, given: Collection[str]) -> Contest:
    from lreorg_fast.cli.work import refuse
    from lreorg_fast.evaluation.contenders import FolderContender
    from lreorg_fast.evaluation.folders import open_collection

    refuse(given, _OF_AVATARS, "without --demo")
    originals, *outputs = entry.folders
    if not outputs and not entry.methods:
        raise ConfigError(
            f"nothing is compared with '{originals}': name a folder of outputs, or a --method"
        )
    _refuse_without_method(entry, given)
    collection = open_collection(originals, entry.identities, allow_missing=entry.allow_missing)
    collection = dataclasses.replace(collection, domain=entry.judges)
    made = [
        FolderContender(collection, folder, allow_missing=entry.allow_missing) for folder in outputs
    ]
    ran = _of_folder(entry, collection)
    attackers = None
    if entry.judges == AVATARS:
        from lreorg_fast.demo.evaluating import avatar_attackers

        attackers = avatar_attackers
    return Contest(collection, [*made, *ran], choose_judges(entry, given), make_attackers=attackers)


def _refuse_without_method(entry: Entry, given: Collection[str]) -> None:
    if entry.methods:
        return
    if "faces" in given:
        raise ConfigError("--faces has no effect without --method; leave it out")
    if "device" in given and entry.judges == AVATARS:
        raise ConfigError("--device has no effect on the judges of avatars; leave it out")
    if "bundle" in given and entry.judges == PHOTOGRAPHS:
        raise ConfigError(
            "--bundle has no effect without --method or --judges avatars; leave it out"
        )


def _of_folder(entry: Entry, collection: FolderCollection) -> list[Contender]:
    if not entry.methods:
        return []
    faces = entry.faces or ("aligned" if entry.judges == AVATARS else "scene")
    return _methods(entry.methods, entry, faces, str(collection.root))


def _methods(names: Sequence[str], entry: Entry, faces: str, originals: str) -> list[Contender]:
    from lreorg_fast.evaluation.contenders import MethodContender

    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"the method '{twice[0]}' is named twice; name it once")
    running = (entry.bundle, entry.device, entry.detector, faces, originals)
    return [MethodContender(partial(make_running, name, *running)) for name in names]


def make_running(
    name: str, bundle: str, device: str, detector: str, faces: str, originals: str
) -> tuple[Method, Anonymizer | None]:
    """A method that is ready to run, and its networks where they see aligned faces.

    Raises:
        LReorgError: see :func:`lreorg_fast.evaluation.methods.make_method`.
    """
    from lreorg_fast.evaluation.methods import make_method, method_info

    anonymizer = _anonymizer(bundle, device) if method_info(name).needs_bundle else None
    method = make_method(
        name,
        anonymizer,
        _detector(detector) if faces == "scene" else None,
        faces=faces,  # type: ignore[arg-type]  # click has checked the choice
        bundle=bundle,
        originals=originals,
    )
    shared = method_info(name).kind == "network" and faces == "aligned"
    return method, anonymizer if shared else None


@functools.cache
def _anonymizer(bundle: str, device: str) -> Anonymizer:
    """One for all methods of a process."""
    from lreorg_fast.pipeline import Anonymizer

    return Anonymizer.load(bundle, device=device)


@functools.cache
def _detector(source: str) -> Detector:
    from lreorg_fast.faces import load_detector

    return load_detector(source)


def choose_judges(entry: Entry, given: Collection[str]) -> MakeJudges:
    """Picklable. Raises ConfigError for an option that has no effect on these judges."""
    from lreorg_fast.cli.work import refuse
    from lreorg_fast.evaluation.judges import JudgeChoices, photograph_judges

    if entry.judges == AVATARS:
        from lreorg_fast.demo.evaluating import avatar_judges

        refuse(given, _OF_PHOTOGRAPHS, "with --judges avatars, which come with the bundle")
        return partial(avatar_judges, entry.bundle)
    choices = JudgeChoices(
        entry.recognizers or None, entry.clip, entry.inception, entry.detector, entry.device
    )
    return partial(photograph_judges, choices)


def open_cache(folder: Path, resume: bool, force: bool) -> Path:
    """The folder of the cache below the output folder, checked before anything is measured.

    Raises:
        OutputError: an earlier evaluation left one, and it is neither continued nor removed; or
            its report is there.
    """
    from lreorg_fast.evaluation.answers import holds_answers
    from lreorg_fast.evaluation.report import check_report

    check_report(folder, resume or force)
    cache = folder / CACHE
    if holds_answers(cache) and not resume:
        if not force:
            raise OutputError(
                f"an evaluation left its cache in '{cache}'; go on with it with --resume, or start "
                "over with --force"
            )
        forget(cache)
    return cache


def open_kept(contest: Contest, folder: Path, overwrite: bool) -> Keep:
    """Where outputs go, checked before any is made.

    Raises:
        ConfigError: nothing runs here. OutputError: a folder of outputs is there already.
    """
    from lreorg_fast.evaluation.judging import Keep
    from lreorg_fast.evaluation.methods.keeping import RECORD
    from lreorg_fast.files import check_folder_target, make_folder

    running = [contender.name for contender in contest.contenders if contender.runs]
    if not running:
        raise ConfigError("--keep-outputs has no effect without --method or --demo; leave it out")
    make_folder(folder)
    for name in running:
        check_folder_target(folder / name, overwrite, RECORD, "a folder of kept outputs")
    return Keep(folder, overwrite)


def forget(cache: Path) -> None:
    """Remove what an evaluation kept; it is face data.

    Raises:
        OutputError: it cannot be removed.
    """
    from lreorg_fast.evaluation.answers import remove_answers
    from lreorg_fast.evaluation.finished import remove_finished

    remove_finished(cache)
    remove_answers(cache)
