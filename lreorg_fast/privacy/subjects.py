"""Whose picture it is: under which name the ledger counts it, and from what its face is drawn."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.privacy.ledger import Ledger
from lreorg_fast.privacy.ledger_file import LedgerFile
from lreorg_fast.privacy.people import PeopleFile, named_faces
from lreorg_fast.privacy.pseudonyms import DEFAULT_CONTEXT, Pseudonyms
from lreorg_fast.privacy.randomness import PSEUDONYM_KEY_BYTES, PseudonymSampler, Sampler

SEPARATE = (
    "Each face was counted as a person of its own: somebody who is in k pictures has cost k times "
    "the epsilon of one."
)
TOGETHER = (
    "Pictures of one person were counted together, as they were named: one draw, which is paid "
    "once in this run and shown again in each picture of the person."
)
SOME_TOGETHER = (
    "Faces that were named were counted together as one person: one draw, which is paid once in "
    "this run and shown again. Each face that nobody named was counted as a person of its own."
)
PSEUDONYMOUS = (
    "Each person's new face comes from a secret key and is the same in every file: these outputs "
    "are linkable by design, pseudonymised and not anonymous as long as the key exists."
)
SOME_PSEUDONYMOUS = (
    f"{PSEUDONYMOUS} Each face that nobody named was drawn afresh, as a person of its own."
)
Person = Callable[[Path], str]


def picture_digest(picture: NDArray[np.uint8]) -> bytes:
    """SHA-256 of a picture's size and pixels, (H, W, 3) uint8; nothing of its file."""
    size = "x".join(map(str, picture.shape)).encode()
    return hashlib.sha256(size + b"\0" + np.ascontiguousarray(picture).tobytes()).digest()


@dataclass(frozen=True)
class Subject:
    """Arguments of :class:`lreorg_fast.Anonymizer` for one picture of one person.

    Attributes:
        track: the person-track; None counts the picture as a person of its own.
        sampler: draws of a pseudonym; None is the system's generator.
        alone: no other picture of this run is of this track, so its draws need not be held.
    """

    track: str | None = None
    sampler: Sampler | None = None
    alone: bool = False

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments; nothing where the defaults serve."""
        given = {} if self.track is None else {"tracks": [self.track]}
        return given if self.sampler is None else given | {"sampler": self.sampler}


@dataclass(frozen=True)
class Subjects:
    """Names the person-track of each picture of a run.

    Named by ``person``, all faces of a file are one person's, so there may be one only; named by
    ``people``, faces are told apart, and those that are not named are persons of their own.

    Args:
        ledger: that of the anonymizer. A :class:`LedgerFile` counts a picture whose person is
            unknown by its pixels, so that the same picture pays again in a later run.
        person: path of a picture -> label of who is on it; None: unknown.
        pseudonyms: keys of the people; needs ``person`` or ``people``.
        context: of the pseudonyms.
        people: who is where in which file.

    Raises:
        ConfigError: pseudonyms without people, or ``person`` together with ``people``.
    """

    ledger: Ledger
    person: Person | None = None
    pseudonyms: Pseudonyms | None = None
    context: str = DEFAULT_CONTEXT
    people: PeopleFile | None = None
    _numbers: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.person is not None and self.people is not None:
            raise ConfigError("people are named twice, as a whole and face by face; leave one out")
        if self.pseudonyms is not None and not self.named:
            raise ConfigError(
                "pseudonyms belong to people, and nobody is named; say who is on the pictures"
            )

    @property
    def named(self) -> bool:
        """Somebody is named."""
        return self.person is not None or self.people is not None

    @property
    def statement(self) -> str:
        """How people were counted, for the report."""
        if self.people is not None:
            return SOME_TOGETHER if self.pseudonyms is None else SOME_PSEUDONYMOUS
        if self.pseudonyms is not None:
            return PSEUDONYMOUS
        return SEPARATE if self.person is None else TOGETHER

    @property
    def lasting(self) -> bool:
        """Named people are counted, or drawn, over runs; also true if nobody is named."""
        over_runs = self.pseudonyms is not None or isinstance(self.ledger, LedgerFile)
        return not self.named or over_runs

    @property
    def probe(self) -> Sampler | None:
        """A sampler of the kind that people get, to check settings with before the first picture
        is read; None is the system's."""
        if self.pseudonyms is None:
            return None
        return PseudonymSampler(secrets.token_bytes(PSEUDONYM_KEY_BYTES), "probe", self.context)

    def done(self, subject: Subject) -> None:
        """Called after each picture, so that a long run does not keep every draw in memory."""
        if subject.alone and subject.track is not None:
            self.ledger.forget(subject.track)

    def check(self, sources: Iterable[Path]) -> None:
        """Raises ConfigError if ``people`` do not fit the sources of a run, see
        :meth:`PeopleFile.check`."""
        if self.people is not None:
            self.people.check(sources)

    def of(self, source: Path, picture: NDArray[np.uint8]) -> Subject:
        """The subject of one aligned face that was read from ``source``.

        Raises:
            ConfigError, PrivacyError, OutputError: of the people and the pseudonyms.
        """
        if self.person is not None:
            return self.labelled(self.person(source))
        if self.people is not None:
            height, width = picture.shape[:2]
            whole = np.array([[0.0, 0.0, width, height]])
            label = named_faces(self.people.of(source), whole).get(0)
            if label is not None:
                return self.labelled(label)
        if isinstance(self.ledger, LedgerFile):
            return Subject(self.ledger.track_of("picture", picture_digest(picture)), alone=True)
        return Subject()

    def labelled(self, label: str) -> Subject:
        """The subject of everything that shows one person.

        Raises:
            ConfigError, PrivacyError, OutputError: of the pseudonyms.
        """
        if self.pseudonyms is not None:
            sampler = self.pseudonyms.sampler(label, self.context)
            return Subject(sampler.track, sampler)
        if isinstance(self.ledger, LedgerFile):
            return Subject(self.ledger.track_of("person", label.encode("utf-8", "surrogateescape")))
        return Subject(self._numbers.setdefault(label, f"person-{secrets.token_hex(8)}"))

    def of_faces(
        self, source: Path, picture: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> list[Subject]:
        """The subjects of all faces of a whole picture, in the order in which they were found.

        In a :class:`LedgerFile` a face that nobody named is counted by the picture's pixels and
        its place in that order: the same picture pays again with the same detector.

        Args:
            source: where the picture was read.
            picture: (H, W, 3) uint8.
            boxes: (N, 4) of the faces.

        Raises:
            ImageError: one person was named, and there are several faces; or a line of ``people``
                does not fit the faces.
            ConfigError, PrivacyError, OutputError: of the pseudonyms.
        """
        if self.person is not None and len(boxes):
            if len(boxes) > 1:
                raise ImageError(
                    f"there are {len(boxes)} faces in it, and a named person is one of them; say "
                    "who is where with --people FILE, or leave the person out"
                )
            return [self.labelled(self.person(source))]
        labels: dict[int, str] = {}
        if self.people is not None:
            try:
                labels = named_faces(self.people.of(source), boxes)
            except ConfigError as error:
                raise ImageError(str(error)) from error
        unnamed = self._unnamed(picture, len(boxes))
        return [self.labelled(labels[i]) if i in labels else unnamed[i] for i in range(len(boxes))]

    def _unnamed(self, picture: NDArray[np.uint8], count: int) -> list[Subject]:
        if not isinstance(self.ledger, LedgerFile):
            return [Subject(f"face-{secrets.token_hex(8)}", alone=True) for _ in range(count)]
        digest = picture_digest(picture)
        names = (self.ledger.track_of("face", b"%s %d" % (digest, i)) for i in range(count))
        return [Subject(name, alone=True) for name in names]
