"""A pretended GPU with a pretended TensorRT: what tests/export/conftest.py's fixture makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import torch
import trt_fake

CPU = torch.device("cpu")


@dataclasses.dataclass
class FakeCuda:
    """Streams that a test chooses, on the CPU; a "graph" launches again with what it was given."""

    device: torch.device = CPU
    current: int = 1
    is_capturing: bool = False
    replays: int = 0

    def stream(self) -> int:
        return self.current

    def capturing(self) -> bool:
        return self.is_capturing

    def capture(self, launch: Callable[[int], None]) -> Callable[[], None]:
        launch(99)

        def replay() -> None:
            self.replays += 1
            launch(self.current)

        return replay


@dataclasses.dataclass
class Machine:
    """What the tests may change of the machine.

    Attributes:
        world: of the pretended TensorRT.
        cuda: of the pretended runs.
        gpu: what the GPU says that it is.
        install: makes ``import tensorrt`` give a version, or fail for None.
    """

    world: trt_fake.World
    cuda: FakeCuda
    gpu: SimpleNamespace
    install: Callable[[str | None], None]
