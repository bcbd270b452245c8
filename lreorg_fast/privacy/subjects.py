"""Whose picture it is: under which name the ledger counts it, and from what its face is drawn."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.privacy.ledger import Ledger
from lreorg_fast.privacy.ledger_file import LedgerFile
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
PSEUDONYMOUS = (
    "Each person's new face comes from a secret key and is the same in every file: these outputs "
    "are linkable by design, pseudonymised and not anonymous as long as the key exists."
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

    Args:
        ledger: that of the anonymizer. A :class:`LedgerFile` counts a picture whose person is
            unknown by its pixels, so that the same picture pays again in a later run.
        person: path of a picture -> label of who is on it; None: unknown.
        pseudonyms: keys of the people; needs ``person``.
        context: of the pseudonyms.

    Raises:
        ConfigError: pseudonyms without people.
    """

    ledger: Ledger
    person: Person | None = None
    pseudonyms: Pseudonyms | None = None
    context: str = DEFAULT_CONTEXT
    _numbers: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.pseudonyms is not None and self.person is None:
            raise ConfigError(
                "pseudonyms belong to people, and nobody is named; say who is on the pictures"
            )

    @property
    def statement(self) -> str:
        """How people were counted, for the report."""
        if self.pseudonyms is not None:
            return PSEUDONYMOUS
        return SEPARATE if self.person is None else TOGETHER

    @property
    def lasting(self) -> bool:
        """Named people are counted, or drawn, over runs; also true if nobody is named."""
        over_runs = self.pseudonyms is not None or isinstance(self.ledger, LedgerFile)
        return self.person is None or over_runs

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

    def of(self, source: Path, picture: NDArray[np.uint8]) -> Subject:
        """The subject of one picture that was read from ``source``.

        Raises:
            ConfigError, PrivacyError, OutputError: of the pseudonyms.
        """
        if self.person is None:
            if isinstance(self.ledger, LedgerFile):
                track = self.ledger.track_of("picture", picture_digest(picture))
                return Subject(track, alone=True)
            return Subject()
        label = self.person(source)
        if self.pseudonyms is not None:
            sampler = self.pseudonyms.sampler(label, self.context)
            return Subject(sampler.track, sampler)
        if isinstance(self.ledger, LedgerFile):
            return Subject(self.ledger.track_of("person", label.encode("utf-8", "surrogateescape")))
        return Subject(self._numbers.setdefault(label, f"person-{secrets.token_hex(8)}"))

    def of_faces(
        self, source: Path, picture: NDArray[np.uint8], count: int
    ) -> list[Subject] | None:
        """The subjects of all faces of a whole picture, in the order in which they were found.

        In a :class:`LedgerFile` a face is counted by the picture's pixels and its place in that
        order: the same picture pays again with the same detector.

        Returns:
            One per face; None counts each as a person of its own, under any name.

        Raises:
            ImageError: somebody was named, and there are several faces.
            ConfigError: as :meth:`of`.
        """
        if self.person is not None and count:
            if count > 1:
                raise ImageError(
                    f"there are {count} faces in it, and a named person is one of them; cut it "
                    "into pictures of one face, or leave the person out"
                )
            return [self.of(source, picture)]
        if not isinstance(self.ledger, LedgerFile):
            return None
        digest = picture_digest(picture)
        names = (self.ledger.track_of("face", b"%s %d" % (digest, i)) for i in range(count))
        return [Subject(name, alone=True) for name in names]
