"""Network files of our own: safetensors whose header says what is built from them.

Two entries of the header's metadata: the architecture's name and its config as JSON. The tensors
are the state dict, and the average latent beside it where the network has one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lreorg_fast.errors import CheckpointError, ConfigError, LReorgError
from lreorg_fast.files import parse_json
from lreorg_fast.weights.checkpoint import Checkpoint, TensorRef, open_checkpoint, tensor_refs
from lreorg_fast.weights.layouts import ARCHITECTURE, wrong_kind
from lreorg_fast.weights.parts import ARCHITECTURES, LATENT_AVERAGE
from lreorg_fast.weights.tensors import check_finite, check_fit, write_tensors

__all__ = ["ARCHITECTURE", "CONFIG", "load_network", "materialize", "read_network", "write_network"]

CONFIG = "lreorg.config"

_LONGEST_CONFIG = 65_536  # characters; the largest of ours has 300
_LARGEST_SIZE = 65_536  # of any number in a config
_LONGEST_LIST = 64
# Fields that say how many modules there are. Each module has a tensor at least, so a header that
# lists fewer tensors lies, and building its modules would cost time for nothing.
_LARGEST_COUNT = 1024
_COUNTS = ("units", "num_ws", "mapping_layers", "num_blocks")
_REAL = ("clamp", "conv_clamp")  # the only fields that are not whole numbers

# What a config of wrong types makes the classes and torch raise.
_UNUSABLE = (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, LReorgError)


def write_network(path: str | os.PathLike[str], module: nn.Module, overwrite: bool = False) -> None:
    """Write a network with everything that is needed to build it again.

    Args:
        path: target, by convention ``*.safetensors``; it appears whole or not at all.
        module: a network of one of the classes of ``ARCHITECTURES``.
        overwrite: replace an existing file.

    Raises:
        ConfigError: a module of another class.
        OutputError: the file cannot be written.
    """
    names = [name for name, known in ARCHITECTURES.items() if type(module) is known.network]
    if not names:
        raise ConfigError(
            f"a {type(module).__name__} cannot be written; give one of "
            f"{', '.join(known.network.__name__ for known in ARCHITECTURES.values())}"
        )
    config: Any = module.config
    tensors = dict(module.state_dict())
    average = getattr(module, LATENT_AVERAGE, None)
    if isinstance(average, Tensor):
        tensors[LATENT_AVERAGE] = average
    text = json.dumps(config.to_dict(), allow_nan=False)
    write_tensors(path, tensors, {ARCHITECTURE: names[0], CONFIG: text}, overwrite)


def load_network(path: str | os.PathLike[str]) -> nn.Module:
    """Read a file of :func:`write_network`, whatever its architecture.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode.

    Raises:
        CheckpointError: another kind of file, an unknown architecture, or tensors that do not fit.
    """
    with open_checkpoint(path) as checkpoint:
        return read_network(checkpoint)


def read_network(checkpoint: Checkpoint) -> nn.Module:
    """As :func:`load_network`, of an opened file.

    The header is compared with the architecture before memory is reserved for any tensor.
    """
    name = checkpoint.metadata.get(ARCHITECTURE)
    if name is None:
        raise wrong_kind(checkpoint, "a network file of this package")
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"'{checkpoint.path}' holds the architecture '{name:.40}', but this version builds "
            f"{', '.join(ARCHITECTURES)}; update lreorg_fast"
        )
    refs = tensor_refs(checkpoint.content)
    try:
        config = _config(checkpoint.metadata.get(CONFIG, ""), len(refs))
        with torch.device("meta"):
            net = ARCHITECTURES[name](config)
    except _UNUSABLE as error:
        raise CheckpointError(
            f"the config of '{checkpoint.path}' makes no '{name}' network ({error!s:.200}); write "
            "the file again"
        ) from error
    average = refs.pop(LATENT_AVERAGE, None)
    return materialize(net, refs, checkpoint.path, average)


def materialize(
    net: nn.Module,
    tensors: Mapping[str, TensorRef | Tensor],
    file: Path,
    average: TensorRef | Tensor | None = None,
) -> nn.Module:
    """Give a network that was built on "meta" its parameters, each read into its final place.

    Memory beyond the network's own is that of its largest tensor.

    Args:
        net: built under ``torch.device("meta")``.
        tensors: its state dict, in any floating-point type.
        file: named in messages.
        average: ``latent_avg`` of a network that has one, of its shape or one row of it; zeros
            where None.

    Returns:
        ``net``, frozen, in evaluation mode.

    Raises:
        CheckpointError: anything missing, extra, of another shape or type, NaN or infinite.
    """
    check_fit(net, tensors, file)
    _check_average(net, average, file)
    dtypes = {name: value.dtype for name, value in net.state_dict().items()}
    state = {name: _read(name, value, dtypes[name], file) for name, value in tensors.items()}
    net.load_state_dict(state, assign=True)
    buffer = getattr(net, LATENT_AVERAGE, None)
    if isinstance(buffer, Tensor):
        value = torch.zeros(buffer.shape)
        if average is not None:
            value.copy_(_read(LATENT_AVERAGE, average, torch.float32, file).expand_as(value))
        setattr(net, LATENT_AVERAGE, value)
    return net.requires_grad_(False).eval()


def _read(name: str, value: TensorRef | Tensor, dtype: torch.dtype, file: Path) -> Tensor:
    tensor = value.read() if isinstance(value, TensorRef) else value
    check_finite(name, tensor, file)
    return tensor.to(dtype)


def _check_average(net: nn.Module, average: TensorRef | Tensor | None, file: Path) -> None:
    buffer = getattr(net, LATENT_AVERAGE, None)
    if average is None:
        return
    wanted = tuple(buffer.shape) if isinstance(buffer, Tensor) else ()
    if not wanted or tuple(average.shape) not in (wanted, wanted[-1:]):
        raise CheckpointError(
            f"'{file}' has a '{LATENT_AVERAGE}' of shape {list(average.shape)}, but the network "
            f"takes {list(wanted) if wanted else 'none'}; the file mixes two networks, fetch or "
            "export it again"
        )
    if not average.dtype.is_floating_point:
        raise CheckpointError(f"'{file}' has a '{LATENT_AVERAGE}' of type {average.dtype}")


def _config(text: str, tensors: int) -> dict[str, Any]:
    """The metadata's JSON, with no number that makes building it on "meta" expensive.

    Raises:
        ValueError: saying what is wrong.
    """
    if len(text) > _LONGEST_CONFIG:
        raise ValueError(f"it has {len(text)} characters")
    config = parse_json(text.encode())
    if not isinstance(config, dict):
        raise ValueError("it is not a JSON object")
    for field, value in config.items():
        largest = min(tensors, _LARGEST_COUNT) if field in _COUNTS else _LARGEST_SIZE
        _check_value(field, value, largest)
    return config


def _check_value(field: str, value: object, largest: int) -> None:
    if isinstance(value, list | dict):
        parts = value.values() if isinstance(value, dict) else value
        if len(value) > _LONGEST_LIST:
            raise ValueError(f"'{field}' has {len(value)} entries")
        for part in parts:
            _check_value(field, part, largest)
    elif isinstance(value, float) and field not in _REAL:
        raise ValueError(f"'{field}' is {value}, not a whole number")
    elif isinstance(value, int) and abs(value) > largest:
        raise ValueError(f"'{field}' is {value:.3g}, more than {largest}")
