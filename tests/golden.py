"""What every test against ``tests/data/published`` needs: parameters in, differences out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import torch
from torch import nn

DATA = Path(__file__).parent / "data" / "published"


def arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of one fixture."""
    with np.load(DATA / f"{name}.npz") as data:
        return {key: data[key] for key in data.files}


def published_keys(name: str) -> list[tuple[str, tuple[int, ...], str]]:
    """Names, shapes and types of a published state dict, in its order."""
    entries = json.loads((DATA / f"keys_{name}.json").read_text())["keys"]
    return [(key, tuple(shape), dtype) for key, shape, dtype in entries]


def keys_of(make: Callable[[], nn.Module]) -> list[tuple[str, tuple[int, ...], str]]:
    """The same of a module, made without memory for its parameters."""
    with torch.device("meta"):
        state = make().state_dict()
    return [(k, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for k, t in state.items()]


@torch.no_grad()
def fill(module: nn.Module, family: str = "plain") -> nn.Module:
    """Give a module the parameters that the published code was run with, frozen."""
    state = module.state_dict()
    for name, tensor in state.items():
        made = published.value(name, tensor.shape, set(state), family, tensor.is_floating_point())
        if made is not None:
            tensor.copy_(torch.from_numpy(made))
    return module.requires_grad_(False).eval()


def difference(found: torch.Tensor, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest wanted value."""
    assert found.shape == wanted.shape
    return float(np.abs(found.detach().numpy() - wanted).max() / np.abs(wanted).max())
