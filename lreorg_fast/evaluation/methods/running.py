"""Methods at work: pictures in, outputs out, and nothing of a source where one fails.

Fail closed: what cannot be made is None, which counts as filled. A source is given back by
``original`` only.
"""

from __future__ import annotations

import itertools
import secrets
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from lreorg_fast.errors import ConfigError, LReorgError
from lreorg_fast.evaluation.methods.covering import Finder, covered, in_portrait, in_scene
from lreorg_fast.evaluation.methods.registry import MethodInfo, method_info
from lreorg_fast.faces.detection import Detector
from lreorg_fast.log import logger
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene import METHODS as SCENE_METHODS
from lreorg_fast.scene import SceneAnonymizer, SceneFace, SceneSettings
from lreorg_fast.settings import Settings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.result import FaceResult

Faces = Literal["aligned", "scene"]
Outputs = list[Picture | None]
ORIGINALS, OUTPUTS, DEMO = "ORIGINALS", "OUTPUTS", "--demo"
NO_FACE = "no face was found"
UNCHANGED = "the output is the source"
# Pictures that are worked on together; the anonymizer takes them in parts that fit its memory.
_CHUNK = 32


class Method(ABC):
    """One method, ready to run; made by :func:`make_method`.

    Attributes:
        info: its entry in :data:`METHODS`.
        command: makes the same kind of outputs on the command line.
        reasons: why outputs were None so far, with counts.
    """

    def __init__(self, info: MethodInfo, command: str) -> None:
        self.info = info
        self.command = command
        self.reasons: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Key in :data:`METHODS`."""
        return self.info.name

    @property
    def title(self) -> str:
        """As tables call it."""
        return self.info.title

    @property
    def description(self) -> str:
        """What is done, in a sentence."""
        return self.info.description

    @property
    def guarantee(self) -> str:
        """What is promised of it."""
        return self.info.guarantee

    @property
    def restores(self) -> bool:
        """Whether :meth:`restore` can be called."""
        return False

    def __call__(
        self, pictures: Sequence[Picture], tracks: Sequence[int | str] | None = None
    ) -> Outputs:
        """The outputs of any number of pictures.

        Args:
            pictures: (H, W, 3) uint8 RGB each, of any sizes; they are not changed.
            tracks: one label per picture. Equal labels are one person with one draw, also in later
                calls; by default every picture gets a draw of its own, as on the command line.

        Returns:
            One per picture, of its size; None where nothing was released as a face. Nothing
            raises for a picture.

        Raises:
            ConfigError: another number of tracks than of pictures.
        """
        return self._in_chunks(pictures, tracks, restore=False)

    def restore(
        self, pictures: Sequence[Picture], tracks: Sequence[int | str] | None = None
    ) -> Outputs:
        """What the keys' holder sees: each picture anonymized, and reversed with its own key.

        As :meth:`__call__`; None also where nothing could be brought back.

        Raises:
            ConfigError: this method has no keys, or another number of tracks than of pictures.
        """
        if not self.restores:
            raise ConfigError(
                f"the method '{self.name}' keeps nothing that brings a face back in these "
                "pictures; recovery is of aligned faces by a bundle's networks"
            )
        return self._in_chunks(pictures, tracks, restore=True)

    def _in_chunks(
        self, pictures: Sequence[Picture], tracks: Sequence[int | str] | None, restore: bool
    ) -> Outputs:
        if tracks is not None and len(tracks) != len(pictures):
            raise ConfigError(f"there are {len(tracks)} tracks for {len(pictures)} pictures")
        outputs: Outputs = []
        for start in range(0, len(pictures), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            labels = None if tracks is None else [str(track) for track in tracks[chunk]]
            outputs += self._together(list(pictures[chunk]), labels, restore)
        return outputs

    def _together(
        self, pictures: list[Picture], tracks: list[str] | None, restore: bool
    ) -> Outputs:
        """All at once; if that fails, each for itself, so that one cannot spoil others."""
        try:
            made = self._work(pictures, tracks, restore)
            return [self._checked(*pair) for pair in zip(pictures, made, strict=True)]
        except Exception as error:
            if len(pictures) == 1:
                told = str(error) if isinstance(error, LReorgError) else type(error).__name__
                self._note(told)
                return [None]
        singles = range(len(pictures))
        labels = [None if tracks is None else [tracks[i]] for i in singles]
        return [self._together([pictures[i]], labels[i], restore)[0] for i in singles]

    def _checked(self, source: Picture, made: Picture | str) -> Picture | None:
        """The last look before a picture leaves."""
        if not isinstance(made, str):
            if made.shape != source.shape or made.dtype != np.uint8:
                made = f"the output is {made.shape} {made.dtype}"
            elif self.info.kind != "original" and np.array_equal(made, source):
                made = UNCHANGED
            else:
                return made
        self._note(made)
        return None

    def _note(self, reason: str) -> None:
        self.reasons[reason] += 1
        logger.warning("%s: a picture is not released: %s", self.name, reason)

    @abstractmethod
    def _work(
        self, pictures: list[Picture], tracks: list[str] | None, restore: bool
    ) -> list[Picture | str]:
        """An output or the reason for none per picture; may raise for all of them."""


class Original(Method):
    """The pictures as they are."""

    def _work(
        self, pictures: list[Picture], tracks: list[str] | None, restore: bool
    ) -> list[Picture | str]:
        return [picture.copy() for picture in pictures]


class Covering(Method):
    """Draws over what ``finder`` finds; a picture without a face is not released."""

    def __init__(self, info: MethodInfo, command: str, finder: Finder) -> None:
        super().__init__(info, command)
        self._finder = finder

    def _work(
        self, pictures: list[Picture], tracks: list[str] | None, restore: bool
    ) -> list[Picture | str]:
        return [self._covered(picture) for picture in pictures]

    def _covered(self, picture: Picture) -> Picture | str:
        places = self._finder(picture)
        return covered(self.name, picture, places) if places else NO_FACE


class Networks(Method):
    """A bundle's networks, on aligned faces."""

    def __init__(self, info: MethodInfo, command: str, anonymizer: Anonymizer) -> None:
        super().__init__(info, command)
        anonymizer.resolve(Settings(**info.settings))  # settings that cannot be met: now
        self._anonymizer = anonymizer
        self._tracks = _Tracks(info.name)

    @property
    def restores(self) -> bool:
        """See :class:`Method`."""
        return True

    def _work(
        self, pictures: list[Picture], tracks: list[str] | None, restore: bool
    ) -> list[Picture | str]:
        labels = None if tracks is None else [self._tracks.own(track) for track in tracks]
        result = self._anonymizer(pictures, **self.info.settings, tracks=labels, recovery=restore)
        made = zip(result.images, result.faces, strict=True)
        return [self._released(image, face, restore) for image, face in made]

    def _released(self, image: Picture, face: FaceResult, restore: bool) -> Picture | str:
        if face.status != "replaced":
            return face.reason or "filled"
        if not restore:
            return image
        if face.recovery_key is None:
            return "there is no key"
        return self._anonymizer.restore(image, face.recovery_key)


class Scenes(Method):
    """New faces in whole pictures. The largest face is the one that a picture is about: where
    that is filled, nothing is released."""

    def __init__(
        self, info: MethodInfo, command: str, anonymizer: Anonymizer, detector: Detector
    ) -> None:
        super().__init__(info, command)
        settings = SceneSettings(
            method="avatar" if info.kind == "avatar" else "reorganize", **info.settings
        )
        self._scene = SceneAnonymizer(anonymizer, detector, settings)
        self._tracks = _Tracks(info.name)

    def _work(
        self, pictures: list[Picture], tracks: list[str] | None, restore: bool
    ) -> list[Picture | str]:
        labels = [None] * len(pictures) if tracks is None else tracks
        return [self._replaced(*pair) for pair in zip(pictures, labels, strict=True)]

    def _replaced(self, picture: Picture, track: str | None) -> Picture | str:
        found = self._scene.detect(picture)
        if not found:
            return NO_FACE
        main = max(range(len(found)), key=lambda i: found[i].size)
        if track is None:
            result = self._scene.replace_found(picture, found)
        else:
            names = [self._tracks.passing() for _ in found]
            names[main] = self._tracks.own(track)
            try:
                result = self._scene.replace_found(picture, found, names)
            finally:
                self._forget(name for i, name in enumerate(names) if i != main)
        face: SceneFace = result.faces[main]
        image: Picture = result.image
        return image if face.reason is None else face.reason

    def _forget(self, names: Iterable[str]) -> None:
        assert self._scene.anonymizer is not None
        for name in names:
            self._scene.anonymizer.ledger.forget(name)


class _Tracks:
    """Names in a ledger that other methods share: no draw of theirs may be held for this one."""

    def __init__(self, name: str) -> None:
        self._prefix = f"{name}/{secrets.token_hex(4)}"
        self._numbers = itertools.count()

    def own(self, track: str) -> str:
        """Of a person who was named."""
        return f"{self._prefix}/{track}"

    def passing(self) -> str:
        """Of somebody else on the picture."""
        return f"{self._prefix}//{next(self._numbers)}"


def make_method(
    name: str,
    anonymizer: Anonymizer | None = None,
    detector: Detector | None = None,
    *,
    faces: Faces = "aligned",
    bundle: str = "demo",
    originals: str = ORIGINALS,
) -> Method:
    """A method of :data:`METHODS`, ready to run.

    Args:
        name: its key.
        anonymizer: networks; needed where the entry says ``needs_bundle``. Several methods may
            share one: none is held to another's draws.
        detector: finds faces in whole pictures.
        faces: what the pictures are: ``aligned``, each one square face as avatars and aligned
            photographs are, or ``scene``, whole pictures in which faces are looked for.
        bundle: as the command line names it, for :attr:`Method.command`.
        originals: the same, what is evaluated: a folder, or ``--demo``.

    Raises:
        ConfigError: an unknown name, no anonymizer or detector where one is needed, or a method
            that these pictures or this bundle cannot have.
    """
    info = method_info(name)
    command = _command(info, faces, bundle, originals)
    if faces not in ("aligned", "scene"):
        raise ConfigError(f"faces is {faces!r}, but must be 'aligned' or 'scene'")
    if info.kind == "original":
        return Original(info, command)
    if faces == "scene" and detector is None:
        raise ConfigError(f"the method '{name}' needs a detector for whole pictures; give one")
    if info.kind == "covering":
        finder = in_portrait if detector is None or faces == "aligned" else in_scene(detector)
        return Covering(info, command, finder)
    if anonymizer is None:
        raise ConfigError(f"the method '{name}' needs a bundle; give one with --bundle")
    if faces == "scene" and detector is not None:
        return Scenes(info, command, anonymizer, detector)
    if info.kind == "avatar":
        raise ConfigError(
            "the method 'avatar' is for whole pictures; evaluate those, or leave it out"
        )
    return Networks(info, command, anonymizer)


def _command(info: MethodInfo, faces: str, bundle: str, originals: str) -> str:
    """With ``lreorg anonymize`` where that verb makes the same, else with ``lreorg evaluate``."""
    which = ["--bundle", bundle] if info.needs_bundle and bundle != "demo" else []
    scene_method = info.name if info.name in SCENE_METHODS and faces == "scene" else None
    if originals == DEMO or (info.kind != "network" and scene_method is None):
        seen = ["--faces", faces] if info.kind == "covering" and originals != DEMO else []
        kept = [] if info.kind == "original" else ["--keep-outputs", OUTPUTS]
        return shlex.join(
            ["lreorg", "evaluate", originals, "--method", info.name, *seen, *which, *kept]
        )
    words = ["lreorg", "anonymize", originals, "-o", OUTPUTS, *which]
    if scene_method is not None:
        return shlex.join([*words, "--method", scene_method])
    for setting, value in info.settings.items():
        given = ",".join(value) or "none" if isinstance(value, tuple) else f"{value}"
        words += [f"--{setting.replace('_', '-')}", given]
    return shlex.join([*words, "--faces", faces])
