"""Turn a published file into one safetensors file of this package, once.

The result holds one network as 32-bit floats with its architecture and settings in the header: it
loads faster, needs no allow-list, and leaves out what only training needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lreorg_fast.weights as weights
from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.files import check_target, parse_json
from lreorg_fast.weights.checkpoint import open_checkpoint
from lreorg_fast.weights.layouts import ARCHITECTURE, FileKind, describe, wrong_kind
from lreorg_fast.weights.networks import CONFIG, write_network

PARTS = {
    "generator": "load_generator",
    "encoder": "load_encoder",
    "identity": "load_identity",
}


@dataclass(frozen=True)
class Converted:
    """What :func:`convert` wrote: where, what it was built as, with which settings, its bytes."""

    path: Path
    source_kind: str
    architecture: str
    config: dict[str, Any]
    bytes: int


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    part: str | None = None,
    overwrite: bool = False,
) -> Converted:
    """Read one network of ``source`` and write it to ``target``.

    Args:
        source: any file that ``load_generator``, ``load_encoder`` or ``load_identity`` takes.
        target: the safetensors file.
        part: which network, where the file holds several: one of :data:`PARTS`.
        overwrite: replace an existing target.

    Raises:
        CheckpointError: not such a file, or it has several networks and ``part`` was not given.
        ConfigError: an unknown part, or a target that is not called ``.safetensors``.
        OutputError: the target cannot be written.
    """
    origin, result = Path(source), Path(target)
    if part is not None and part not in PARTS:
        raise ConfigError(f"part is {part!r:.80}, but must be one of {', '.join(PARTS)}")
    if result.suffix != ".safetensors":
        raise ConfigError(f"the target '{result}' must have a name that ends in .safetensors")
    check_target(result, overwrite)  # before minutes of reading
    kind, loader = _choose(origin, part)
    network = getattr(weights, loader)(origin)
    write_network(result, network, overwrite=overwrite)
    with open_checkpoint(result) as written:
        architecture = written.metadata[ARCHITECTURE]
        config = parse_json(written.metadata[CONFIG].encode())
    return Converted(result, kind.title, architecture, config, result.stat().st_size)


def _choose(source: Path, part: str | None) -> tuple[FileKind, str]:
    with open_checkpoint(source) as checkpoint:
        kind = describe(checkpoint)
        names = () if kind is None else kind.loaders
        parts = [name for name, loader in PARTS.items() if loader in names]
        if kind is None or not parts or (part is not None and part not in parts):
            wanted = "a network that is converted" if part is None else f"one with a part '{part}'"
            raise wrong_kind(checkpoint, wanted)
    if part is None and len(parts) > 1:
        raise CheckpointError(
            f"'{source}' is {kind.title} and holds several networks; say which one is wanted, "
            f"{' or '.join(parts)}"
        )
    return kind, PARTS[part or parts[0]]
