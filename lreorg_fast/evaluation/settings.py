"""What an evaluation does beside its figures."""

from __future__ import annotations

from dataclasses import dataclass

from lreorg_fast.errors import ConfigError


@dataclass(frozen=True)
class EvaluationSettings:
    """What is done beside the figures.

    Args:
        attacks: whether attackers learn from outputs; it takes most of the time.
        samples: people on the contact sheet, 0 to 100.
        clustered: people whose embeddings are kept for the picture of clusters, 0 to 100.

    Raises:
        ConfigError: a number out of range.
    """

    attacks: bool = True
    samples: int = 12
    clustered: int = 10

    def __post_init__(self) -> None:
        for name in ("samples", "clustered"):
            value = getattr(self, name)
            if not 0 <= value <= 100:
                raise ConfigError(f"{name} is {value}, but must be 0 to 100")
