"""Where random draws come from.

Production code takes no seed: whoever knows a seed can repeat the draw and undo the privacy. The
one seeded sampler is fenced by an environment variable and strips every guarantee.
"""

from __future__ import annotations

import os
import random
import secrets
from typing import ClassVar

from lreorg_fast.errors import ConfigError, PrivacyError

INSECURE_SWITCH = "LREORG_INSECURE_TEST"
INSECURE_GUARANTEE = "privacy: none (drawn by InsecureTestSampler, whose seed repeats every draw)"


class SystemSampler:
    """Draws from the operating system's generator (``secrets``)."""

    secure: ClassVar[bool] = True

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


Sampler = SystemSampler | InsecureTestSampler


def checked_sampler(sampler: Sampler | None) -> Sampler:
    """``sampler``, or the system's when None.

    Only the two classes above are let in, by exact type: a subclass could draw from a seed and
    still call itself secure.

    Raises:
        ConfigError: any other object.
    """
    if sampler is None:
        return SystemSampler()
    if type(sampler) not in (SystemSampler, InsecureTestSampler):
        raise ConfigError(
            f"sampler is of type {type(sampler).__name__}, but must be SystemSampler (the "
            "default) or, in tests, InsecureTestSampler; leave it out"
        )
    return sampler
