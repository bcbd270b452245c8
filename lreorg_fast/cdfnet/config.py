"""Shape of a CDFNet as frozen, validated data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from lreorg_fast.errors import ConfigError

# Fixed by the paper's dense block (Eq. 2), not settings.
DENSE_LAYERS = 5
LEAKY_SLOPE = 0.01

_COUNTS = ("dim", "cond_dim", "num_blocks", "growth")
# Far above any network of this kind; below it every size in bytes fits 64 bits.
_LARGEST_COUNT = 65_536


@dataclasses.dataclass(frozen=True)
class CDFNetConfig:
    """Shape of a CDFNet.

    Attributes:
        dim: width D of a latent row (one token) and of both streams, 1 to 65536.
        cond_dim: width of a keyword feature, 1 to 65536.
        num_blocks: number of blocks (condition block + dense block), 1 to 65536.
        growth: width g of the hidden layers of a dense subnet, 1 to 65536.
        clamp: bound c of a coupling's log-scale, e(x) = exp(c (2 sigmoid(x) - 1)); finite, > 0.

    Raises:
        ConfigError: a field has the wrong type or is out of range.
    """

    dim: int = 512
    cond_dim: int = 512
    num_blocks: int = 16
    growth: int = 32
    clamp: float = 2.0

    def __post_init__(self) -> None:
        for field in _COUNTS:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(
                    f"CDFNetConfig.{field} must be an int, not {value!r}; pass a whole number."
                )
            if not 1 <= value <= _LARGEST_COUNT:
                raise ConfigError(
                    f"CDFNetConfig.{field} is {value}; choose a value from 1 to {_LARGEST_COUNT}."
                )
        if isinstance(self.clamp, bool) or not isinstance(self.clamp, (int, float)):
            raise ConfigError(
                f"CDFNetConfig.clamp must be a float, not {self.clamp!r}; the usual value is 2.0."
            )
        if not (math.isfinite(self.clamp) and self.clamp > 0):
            raise ConfigError(
                f"CDFNetConfig.clamp is {self.clamp}; choose a finite value above 0, usually 2.0."
            )
        object.__setattr__(self, "clamp", float(self.clamp))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready data; :meth:`from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CDFNetConfig:
        """Build a config from a mapping; missing fields take their defaults.

        Raises:
            ConfigError: an unknown field, or a value that the constructor refuses.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise ConfigError(
                f"CDFNetConfig has no field {', '.join(map(repr, unknown))}; "
                f"allowed are {', '.join(known)}."
            )
        return cls(**data)
