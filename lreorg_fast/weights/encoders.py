"""The e4e encoder from its authors' checkpoints.

The checkpoint says by its options whether the average latent is added to the result; the number
of rows follows from its names. Sizes within the network are those of every public file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lreorg_fast.errors import CheckpointError
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.weights.checkpoint import (
    Checkpoint,
    Inert,
    TensorRef,
    open_checkpoint,
    tensor_refs,
)
from lreorg_fast.weights.layouts import ARCHITECTURE, wrong_kind
from lreorg_fast.weights.networks import materialize, read_network
from lreorg_fast.weights.parts import LATENT_AVERAGE

_WANTED = "an e4e encoder"
_MARKERS = ("styles.0.linear.weight", "latlayer1.weight")
_ENCODER_TYPE = "Encoder4Editing"

# Where the encoder lies: e4e's checkpoint; a state dict of the encoder only; bare.
_PLACES: tuple[tuple[str | None, str], ...] = (
    ("state_dict", "encoder."),
    ("state_dict", ""),
    (None, "encoder."),
    (None, ""),
)
_ROW = re.compile(r"styles\.(\d+)\..*")


@dataclass(frozen=True)
class _Found:
    refs: Mapping[str, TensorRef]
    options: Mapping[str, Any] | None  # None: the file has no options
    beside: Mapping[str, Any] = field(default_factory=dict)


def load_encoder(path: str | os.PathLike[str]) -> E4EEncoder:
    """Read an e4e encoder; nothing of the file is executed, and the decoder is not read.

    Takes e4e's checkpoints, with or without decoder and optimizer, state dicts of the encoder
    alone, and what :func:`~lreorg_fast.weights.networks.write_network` wrote. The stage of
    progressive training is not in a checkpoint: all rows have their offset.

    ``latent_avg`` is added to the result if the option ``start_from_latent_avg`` is set. A file
    without options has it added if it is there, as in the authors' standalone loader.

    Args:
        path: the file; its name does not matter.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode: ``(N, 3, 256, 256)`` RGB in
        [-1, 1] -> ``(N, num_ws, 512)``.

    Raises:
        CheckpointError: unreadable, another kind of file, options that contradict the tensors, no
            average where the options ask for it, or tensors that are missing, extra, of another
            shape, NaN or infinite.
    """
    source = Path(path)
    with open_checkpoint(source) as checkpoint:
        if ARCHITECTURE in checkpoint.metadata:
            net = read_network(checkpoint)
            if not isinstance(net, E4EEncoder):
                raise wrong_kind(checkpoint, _WANTED)
            return net
        found = _find(checkpoint)
        if found is None:
            raise wrong_kind(checkpoint, _WANTED)
        options = found.options or {}
        _check_options(options, source)
        rows = _rows(found.refs, options, source)
        with torch.device("meta"):
            net = E4EEncoder(E4EConfig(num_ws=rows))
        average = _average(found, source)
        materialize(net, found.refs, source, average)
    return net


def _find(checkpoint: Checkpoint) -> _Found | None:
    tree = checkpoint.content
    if not isinstance(tree, Mapping):
        return None
    for name, prefix in _PLACES:
        state = tree if name is None else tree.get(name)
        refs = tensor_refs(state, prefix) if isinstance(state, Mapping) else {}
        if not all(marker in refs for marker in _MARKERS):
            continue
        beside = dict(tree)
        if name is None and LATENT_AVERAGE in refs:
            beside[LATENT_AVERAGE] = refs.pop(LATENT_AVERAGE)
        return _Found(refs, _options(tree.get("opts"), checkpoint.path), beside)
    return None


def _options(entry: object, source: Path) -> Mapping[str, Any] | None:
    """A plain dict in e4e's files, an argparse.Namespace in those of some forks."""
    if entry is None:
        return None
    options = entry.attributes if isinstance(entry, Inert) else entry
    if not isinstance(options, Mapping):
        raise CheckpointError(
            f"'{source}' has 'opts' that are neither a dict nor a Namespace; export it again"
        )
    return options


def _check_options(options: Mapping[str, Any], source: Path) -> None:
    for name, wanted in (("encoder_type", _ENCODER_TYPE), ("input_nc", 3)):
        value = options.get(name, wanted)
        if value != wanted:
            raise CheckpointError(
                f"'{source}' says {name} = {value!r:.60}, but only {wanted!r} is supported; give a "
                "checkpoint of e4e for face pictures"
            )


def _rows(refs: Mapping[str, TensorRef], options: Mapping[str, Any], source: Path) -> int:
    """How many latent rows the names give, compared with the generator's size in the options."""
    found = {match[1] for match in map(_ROW.fullmatch, refs) if match}
    rows = len(found)
    if found != {str(row) for row in range(rows)}:
        raise CheckpointError(
            f"'{source}' has gaps in its latent rows ({rows} of them, the names reach "
            f"styles.{max(found, key=lambda name: (len(name), name))}); fetch it again"
        )
    size = options.get("stylegan_size")
    if size is None:
        return rows
    if type(size) is not int or not 8 <= size <= 1024 or size & (size - 1):
        raise CheckpointError(
            f"'{source}' says stylegan_size = {size!r:.60}, but it must be a power of two from 8 "
            "to 1024; correct the option in the file"
        )
    wanted = 2 * (size.bit_length() - 1) - 2
    if rows == wanted:
        return rows
    extra = ", ".join(f"styles.{row}" for row in range(min(rows, wanted), max(rows, wanted)))
    raise CheckpointError(
        f"'{source}' says stylegan_size = {size}, which has {wanted} latent rows, but the file has "
        f"{rows} ({'extra' if rows > wanted else 'missing'}: {extra:.200}); the option is wrong, "
        f"a generator of {rows} rows has {2 ** (rows // 2 + 1)} pixels"
    )


def _average(found: _Found, source: Path) -> TensorRef | None:
    """The rows that are added to the result, or None where nothing is."""
    entry = found.beside.get(LATENT_AVERAGE)
    if entry is not None and not isinstance(entry, TensorRef):
        raise CheckpointError(f"'{source}' has a '{LATENT_AVERAGE}' that is no tensor")
    if found.options is None:
        return entry
    if not found.options.get("start_from_latent_avg", False):
        return None
    if entry is None:
        raise CheckpointError(
            f"'{source}' says start_from_latent_avg, but has no '{LATENT_AVERAGE}': its authors' "
            "code would then take the mean of random latents, another one at each start; add the "
            f"'{LATENT_AVERAGE}' of the generator that the encoder was trained with"
        )
    return entry
