"""What one anonymization of whole pictures is asked to do, validated before any is touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import DEFAULT_HIDE
from lreorg_fast.privacy import DEFAULT_MECHANISM
from lreorg_fast.settings import Settings

Method = Literal["reorganize", "avatar", "pixelate", "fill"]
METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT_METHOD: Method = "reorganize"
# CenterFace: of 576 drawn avatars 97% reach 0.15 and 94% reach 0.2; people in photographs 0.8 and
# more. Cluttered photographs have false alarms at either (docs/pictures.md). A false alarm costs
# some background, a miss a person.
DEFAULT_THRESHOLD = 0.15
DEFAULT_FEATHER = 0.15
_IDLE = ("hide", "keep", "epsilon", "mechanism", "attribute_rule", "attribute_epsilon")


@dataclass(frozen=True)
class SceneSettings:
    """Settings of a :class:`lreorg_fast.scene.SceneAnonymizer`.

    A setting that would have no effect is refused rather than ignored.

    Args:
        method: what stands in the place of a face. ``reorganize``: a new face by the bundle's
            networks, with kept attributes. ``avatar``: a demo avatar of nobody. ``pixelate``: a
            mosaic, which is no protection against somebody who can compare. ``fill``: one colour.
        hide, keep, epsilon, mechanism, attribute_rule, attribute_epsilon: of ``reorganize``, see
            :meth:`lreorg_fast.Anonymizer.__call__`; ``avatar`` takes ``keep`` only.
        threshold: least score of a face, in (0, 1].
        feather: of ``reorganize``: width of the soft border of a new face, as a share of its half
            axes, 0 to 1.
        colour_match: of ``reorganize``: carry brightness and contrast of a face's surroundings over
            to the new face. Neither is for bundles of portraits, such as the demo.

    Raises:
        ConfigError: a value out of range, or without effect with this method.
    """

    method: Method = DEFAULT_METHOD
    hide: Iterable[str] = DEFAULT_HIDE
    keep: Iterable[str] | None = None
    epsilon: float | None = None
    mechanism: str = DEFAULT_MECHANISM
    attribute_rule: str | None = None
    attribute_epsilon: float | None = None
    threshold: float = DEFAULT_THRESHOLD
    feather: float = DEFAULT_FEATHER
    colour_match: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method is {self.method!r}; choose {', '.join(METHODS)}")
        for name in ("hide", "keep"):  # an iterator would be empty from the second picture on
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold!r}, but must be in (0, 1]")
        if not 0 <= self.feather <= 1:
            raise ConfigError(f"feather is {self.feather!r}, but must be in [0, 1]")
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        taken = {"reorganize": _IDLE, "avatar": ("keep",)}.get(self.method, ())
        default = Settings()
        for name in _IDLE:
            if name not in taken and getattr(self, name) != getattr(default, name):
                raise ConfigError(
                    f"{name} has no effect with the method '{self.method}'; leave it out or choose "
                    "the method 'reorganize'"
                )
        if self.method != "reorganize":
            self.refuse_borders(f"with the method '{self.method}'")

    def refuse_borders(self, where: str) -> None:
        """Raises ConfigError if a setting of soft borders was changed, which has no effect."""
        if self.feather != DEFAULT_FEATHER:
            raise ConfigError(f"feather has no effect {where}, which has borders of its own")
        if not self.colour_match:
            raise ConfigError(f"colour_match has no effect {where}; leave it on")

    @property
    def settings(self) -> Settings:
        """Those of the aligned faces."""
        return Settings(
            self.hide,
            self.keep,
            self.epsilon,
            self.mechanism,
            self.attribute_rule,
            self.attribute_epsilon,
        )
