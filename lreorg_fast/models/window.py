"""A face network that sees a square window of the picture and nothing else.

A recognizer for the inner face: whatever it says, it cannot say it because of the hair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.residual import check_pictures


@dataclass(frozen=True)
class WindowConfig:
    """Where the window is, and the network behind it.

    Args:
        input_size: side of the picture in pixels.
        left, top: first column and row of the window, whose side is ``backbone.input_size``.
        backbone: the network that sees it.
    """

    input_size: int
    left: int
    top: int
    backbone: BackboneConfig

    def __post_init__(self) -> None:
        last = self.input_size - self.backbone.input_size
        if not (0 <= self.left <= last and 0 <= self.top <= last):
            raise ConfigError(
                f"a window of {self.backbone.input_size} pixels at ({self.left}, {self.top}) is "
                f"not within {self.input_size} pixels; left and top must be from 0 to {last}"
            )

    @property
    def outputs(self) -> int:
        """Length of the result."""
        return self.backbone.outputs

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WindowConfig:
        """The reverse of :meth:`to_dict`.

        Raises:
            TypeError, ConfigError: unknown or missing fields, or impossible values.
        """
        if not isinstance(data.get("backbone"), Mapping):
            raise ConfigError("the config of a window lacks its 'backbone'; give an object")
        return cls(**{**data, "backbone": BackboneConfig(**data["backbone"])})


class WindowBackbone(nn.Module):
    """``(N, 3, S, S)`` RGB in [-1, 1] -> ``(N, outputs)``, float32, from the window alone."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = FaceBackbone(config.backbone)

    def window(self, x: Tensor) -> Tensor:
        """What the network sees of pictures ``(N, 3, S, S)``."""
        check_pictures(x, self.config.input_size, "face network")
        side, left, top = self.config.backbone.input_size, self.config.left, self.config.top
        return x[:, :, top : top + side, left : left + side]

    def raw(self, x: Tensor) -> Tensor:
        """The result before normalization."""
        return self.backbone.raw(self.window(x))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.backbone(self.window(x))
        return y
