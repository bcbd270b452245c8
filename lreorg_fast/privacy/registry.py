"""The identity mechanisms by name, for settings, bundles and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy.labelled import KAnonymityFarthest, LaplaceFeature, PaperWindow
from lreorg_fast.privacy.mechanisms import (
    DEFAULT_EPSILON,
    GroupMechanism,
    Uniform,
    WindowRandomizedResponse,
)
from lreorg_fast.privacy.randomness import Sampler
from lreorg_fast.privacy.rank_weights import RankWeights

DEFAULT_MECHANISM = "window-rr"


@dataclass(frozen=True)
class MechanismEntry:
    """One row of :data:`MECHANISMS`.

    Attributes:
        promise: one sentence, what a draw guarantees or does not.
        private: a draw has a finite epsilon.
        takes_epsilon: an epsilon has an effect on the draw.
        takes_window: a rank window has an effect on the draw.
        make: (epsilon, num_groups, window, sampler) to the mechanism.
    """

    promise: str
    private: bool
    takes_epsilon: bool
    takes_window: bool
    make: Callable[
        [float, int, tuple[int, int] | None, Sampler | None], GroupMechanism | LaplaceFeature
    ]


MECHANISMS: dict[str, MechanismEntry] = {
    WindowRandomizedResponse.name: MechanismEntry(
        WindowRandomizedResponse.promise, True, True, True, WindowRandomizedResponse
    ),
    Uniform.name: MechanismEntry(
        Uniform.promise,
        True,
        False,
        False,
        lambda _e, groups, _w, sampler: Uniform(groups, sampler),
    ),
    RankWeights.name: MechanismEntry(RankWeights.promise, True, True, True, RankWeights.around),
    PaperWindow.name: MechanismEntry(PaperWindow.promise, False, True, True, PaperWindow),
    KAnonymityFarthest.name: MechanismEntry(
        KAnonymityFarthest.promise,
        False,
        False,
        False,
        lambda _e, groups, _w, sampler: KAnonymityFarthest(groups, sampler),
    ),
    LaplaceFeature.name: MechanismEntry(
        LaplaceFeature.promise,
        False,
        True,
        False,
        lambda epsilon, _g, _w, sampler: LaplaceFeature(epsilon, sampler),
    ),
}


def make_mechanism(
    name: str,
    epsilon: float | None,
    num_groups: int,
    window: tuple[int, int] | None = None,
    sampler: Sampler | None = None,
) -> GroupMechanism | LaplaceFeature:
    """Make an identity mechanism by name.

    Args:
        name: a key of :data:`MECHANISMS`.
        epsilon: in [0, 20]; None is 1 where the mechanism takes one. For a mechanism without a
            guarantee it only shapes the draw.
        num_groups: m >= 2, the groups of the codebook (``laplace`` needs no groups).
        window: (a, b), 1-based inclusive ranks; None is the default window where one is used.
        sampler: None (the operating system's generator) outside tests.

    Raises:
        ConfigError: unknown name, a value out of range, or a setting that this mechanism ignores.
    """
    if name not in MECHANISMS:
        raise ConfigError(
            f"mechanism is {name!r}, but must be one of {', '.join(MECHANISMS)}; choose one"
        )
    entry = MECHANISMS[name]
    for setting, value, taken in (
        ("epsilon", epsilon, entry.takes_epsilon),
        ("window", window, entry.takes_window),
    ):
        if value is not None and not taken:
            users = [other for other, row in MECHANISMS.items() if getattr(row, f"takes_{setting}")]
            raise ConfigError(
                f"{setting} is {value!r}, but has no effect on mechanism '{name}'; leave it out "
                f"or choose one of {', '.join(users)}"
            )
    return entry.make(DEFAULT_EPSILON if epsilon is None else epsilon, num_groups, window, sampler)
