"""Where random draws come from.

Production code takes no seed: whoever knows a seed can repeat the draw and undo the privacy. The
one seeded sampler is fenced by an environment variable and strips every guarantee. A pseudonym is
drawn from a secret key of the person, and only by mechanisms that do not look at the face.
"""

from __future__ import annotations

import hmac
import os
import random
import secrets
from collections.abc import Iterable
from typing import ClassVar

from lreorg_fast.errors import ConfigError, PrivacyError

PSEUDONYM_KEY_BYTES = 32
INSECURE_SWITCH = "LREORG_INSECURE_TEST"
PSEUDONYM_GUARANTEE = (
    "epsilon = 0: drawn from a secret key of the person, whatever the face shows; outputs of one "
    "person are linkable by design, a pseudonym"
)
INSECURE_GUARANTEE = "privacy: none (drawn by InsecureTestSampler, whose seed repeats every draw)"


class SystemSampler:
    """Draws from the operating system's generator (``secrets``)."""

    secure: ClassVar[bool] = True
    repeats: ClassVar[bool] = False
    guarantee: ClassVar[str | None] = None

    def randbelow(self, n: int) -> int:
        """A uniform integer in [0, n), exactly uniform for every n >= 1 of any size."""
        return secrets.randbelow(n)


class InsecureTestSampler:
    """Repeatable draws for tests only; a mechanism that uses it reports epsilon = infinity.

    Args:
        seed: seed of the generator.

    Raises:
        PrivacyError: the environment does not have ``LREORG_INSECURE_TEST=1``.
    """

    secure: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    guarantee: ClassVar[str | None] = INSECURE_GUARANTEE

    def __init__(self, seed: int) -> None:
        if os.environ.get(INSECURE_SWITCH) != "1":
            raise PrivacyError(
                f"InsecureTestSampler needs {INSECURE_SWITCH}=1 in the environment, because a "
                "seeded draw protects nobody; leave the sampler out"
            )
        self._random = random.Random(seed)

    def randbelow(self, n: int) -> int:
        """A uniform integer in [0, n), repeatable from the seed."""
        return self._random.randrange(n)


class PseudonymSampler:
    """The same draws for a person in every file: HMAC-SHA256 under the person's secret key.

    The numbers are those of HMAC-SHA256(key, context || counter), cut to as many bits as n needs;
    a number that is not below n is rejected and the next one taken, so none is likelier than
    another. To whoever lacks the key they are as good as random.

    One key must not draw twice for two different faces: by comparing the results one learns more
    than epsilon allows. So only mechanisms that ignore the face take this sampler.

    Args:
        key: secret of one person, 32 bytes from a random generator, never from a face.
        track: name of the person-track that the key belongs to; holds nothing of the person.
        context: what is drawn; another context gives draws that have nothing to do with these.
    """

    secure: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    guarantee: ClassVar[str | None] = PSEUDONYM_GUARANTEE

    def __init__(self, key: bytes, track: str, context: str) -> None:
        if not isinstance(key, bytes) or len(key) != PSEUDONYM_KEY_BYTES:
            raise ConfigError(
                f"key of a pseudonym must be {PSEUDONYM_KEY_BYTES} random bytes; take one from "
                "lreorg_fast.privacy.Pseudonyms"
            )
        self._key = key
        self.track = track
        self._context = context
        self._counter = 0

    def __repr__(self) -> str:
        return f"PseudonymSampler(track={self.track!r})"  # not the key

    def of(self, purpose: str) -> PseudonymSampler:
        """A fresh sampler for one keyword, whatever was drawn from this one."""
        return PseudonymSampler(self._key, self.track, f"{self._context}\0{purpose}")

    def randbelow(self, n: int) -> int:
        """The next integer in [0, n), uniform to whoever lacks the key; n >= 1 of any size."""
        if n < 1:
            raise ValueError(f"n is {n}, but must be at least 1")
        bits = (n - 1).bit_length()
        while True:
            number = int.from_bytes(self._bytes((bits + 7) // 8), "big") >> (-bits % 8)
            if number < n:
                return number

    def _bytes(self, count: int) -> bytes:
        stream = b""
        while len(stream) < count:
            message = self._context.encode() + b"\0" + self._counter.to_bytes(8, "big")
            stream += hmac.digest(self._key, message, "sha256")
            self._counter += 1
        return stream[:count]


Sampler = SystemSampler | InsecureTestSampler | PseudonymSampler


def sampler_for(sampler: Sampler | None, keyword: str) -> Sampler | None:
    """``sampler`` as the draw of one keyword takes it: that of a pseudonym begins anew, so that
    the order of keywords changes nothing."""
    return sampler.of(keyword) if isinstance(sampler, PseudonymSampler) else sampler


def check_tracks(sampler: Sampler | None, tracks: Iterable[str]) -> None:
    """A pseudonym draws for its own person only.

    Raises:
        ConfigError: another track.
    """
    if isinstance(sampler, PseudonymSampler) and set(tracks) != {sampler.track}:
        raise ConfigError(
            f"the sampler is that of track '{sampler.track}', but there are others or none; give "
            "tracks=[sampler.track] for every picture, and one call to each person"
        )


def refuse_insecure_environment() -> None:
    """For programs that serve people: no run while the switch for test draws is set.

    Raises:
        PrivacyError: the environment has ``LREORG_INSECURE_TEST``.
    """
    if os.environ.get(INSECURE_SWITCH):
        raise PrivacyError(
            f"{INSECURE_SWITCH} is set in the environment, which lets tests draw without any "
            "privacy; unset it to anonymize"
        )


def checked_sampler(sampler: Sampler | None) -> Sampler:
    """``sampler``, or the system's when None.

    Only the three classes above are let in, by exact type: a subclass could draw from a seed and
    still call itself secure.

    Raises:
        ConfigError: any other object.
    """
    if sampler is None:
        return SystemSampler()
    if type(sampler) not in (SystemSampler, InsecureTestSampler, PseudonymSampler):
        raise ConfigError(
            f"sampler is of type {type(sampler).__name__}, but must be SystemSampler (the "
            "default), PseudonymSampler or, in tests, InsecureTestSampler; leave it out"
        )
    return sampler
