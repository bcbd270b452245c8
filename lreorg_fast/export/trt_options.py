"""How an engine is built: profiles and settings, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lreorg_fast.errors import ConfigError
from lreorg_fast.export.trt_plugin import PLUGINS

MOST_FACES = 4096
_MOST_OPTIMIZATION = 5
_LEAST_WORKSPACE = 2**20


@dataclasses.dataclass(frozen=True)
class Profile:
    """The numbers of faces of a call for which an engine is tuned.

    Attributes:
        least, best, most: 1 to 4096, in order; ``best`` is what TensorRT measures.
    """

    least: int
    best: int
    most: int

    def __post_init__(self) -> None:
        numbers = (self.least, self.best, self.most)
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        if not whole or not 1 <= self.least <= self.best <= self.most <= MOST_FACES:
            raise ConfigError(
                f"a profile is {numbers}, but must be the least, best and most faces of a call, "
                f"1 to {MOST_FACES} and in order"
            )

    def holds(self, faces: int) -> bool:
        return self.least <= faces <= self.most


ProfileLike = Profile | tuple[int, int, int] | int


def as_profile(given: ProfileLike) -> Profile:
    """From a profile, its three numbers, or one number of faces."""
    if isinstance(given, Profile):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return Profile(given, given, given)
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 3:
        return Profile(*given)
    raise ConfigError(
        f"a profile is {given!r}, but must be (least, best, most) faces, or one number of faces"
    )


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """Everything that changes what is built from an ONNX file; part of the engine's identity.

    Attributes:
        profiles: at least one.
        plugin: "auto", "always" or "never", see :func:`lreorg_fast.export.tensorrt`.
        refit: weights can be replaced later.
        workspace: bytes of device memory that the engine may use for intermediate results.
        optimization_level: 0 (fast build) to 5 (fast engine).
    """

    profiles: tuple[Profile, ...] = (Profile(1, 1, 8),)
    plugin: str = "auto"
    refit: bool = False
    workspace: int = 4 * 2**30
    optimization_level: int = 3

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ConfigError("profiles is empty; give (least, best, most) faces at least once")
        if self.plugin not in PLUGINS:
            raise ConfigError(f"plugin is {self.plugin!r}; allowed are {', '.join(PLUGINS)}")
        _check_number("workspace", self.workspace, _LEAST_WORKSPACE, 2**50)
        _check_number("optimization_level", self.optimization_level, 0, _MOST_OPTIMIZATION)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _check_number(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name} is {value!r}, but must be a whole number from {least} to {most}")
