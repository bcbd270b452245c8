"""A CDFNet from a file: our own, or a state dict in any container.

No CDFNet was published by the paper's authors; what people have are state dicts of their own
training, with the names that :class:`lreorg_fast.CDFNet` gives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.log import once
from lreorg_fast.weights.checkpoint import TensorRef, open_checkpoint, tensor_refs
from lreorg_fast.weights.layouts import ARCHITECTURE, wrong_kind
from lreorg_fast.weights.networks import materialize, read_network

_CONFIG = "config"
# Where trainers put the state dict (bare comes first), and what they put before every name;
# "payload" is of this package's own training folders.
_WRAPPERS = ("net", "state_dict", "model")
_PREFIXES = ("", "module.", "net.", "model.")
_LATENT = "blocks.0.cond.add.latent.weight"
_KEYWORD = "blocks.0.cond.add.keyword.weight"
_HIDDEN = "blocks.0.dense.add.layers.0.weight"


def load_cdfnet(path: str | os.PathLike[str]) -> CDFNet:
    """Read a CDFNet; nothing of the file is executed.

    Takes what :func:`lreorg_fast.weights.networks.write_network` wrote, and a state dict as
    safetensors or torch file, bare or under ``net``, ``state_dict`` or ``model`` (the
    ``state.pt`` of this package's training too). The shape follows from the tensors; the clamp
    does not, so it comes from a mapping ``config`` beside the state dict, or is 2, which is
    logged.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode.

    Raises:
        CheckpointError: unreadable, another kind of file, or tensors that are missing, extra, of
            another shape or not finite.
    """
    source = Path(path)
    with open_checkpoint(source) as checkpoint:
        if ARCHITECTURE in checkpoint.metadata:
            net = read_network(checkpoint)
            if not isinstance(net, CDFNet):
                raise wrong_kind(checkpoint, "a CDFNet")
            return net
        found = next(_candidates(checkpoint.content), None)
        if found is None:
            raise wrong_kind(checkpoint, "a CDFNet")
        refs, settings = found
        config = _config(refs, settings, source)
        with torch.device("meta"):
            net = CDFNet(config)
        return cast(CDFNet, materialize(net, refs, source))


def _candidates(content: Any) -> Iterator[tuple[dict[str, TensorRef], Mapping[str, Any]]]:
    """Every place of the file that has the names of a CDFNet, with the settings beside it."""
    for tree in (content, content.get("payload") if isinstance(content, Mapping) else None):
        if not isinstance(tree, Mapping):
            continue
        settings = tree.get(_CONFIG)
        for state in (tree, *(tree.get(name) for name in _WRAPPERS)):
            for prefix in _PREFIXES if isinstance(state, Mapping) else ():
                refs = tensor_refs(state, prefix)
                if _LATENT in refs:
                    yield refs, settings if isinstance(settings, Mapping) else {}


def _config(
    refs: Mapping[str, TensorRef], settings: Mapping[str, Any], source: Path
) -> CDFNetConfig:
    shapes = {name: refs[name].shape for name in (_LATENT, _KEYWORD, _HIDDEN) if name in refs}
    if len(shapes) < 3 or any(len(shape) != 2 for shape in shapes.values()):
        raise CheckpointError(
            f"'{source}' looks like a CDFNet, but its first block is incomplete; save the whole "
            "state dict"
        )
    seen = {
        "dim": shapes[_LATENT][0],
        "cond_dim": shapes[_KEYWORD][1],
        "growth": shapes[_HIDDEN][0],
        "num_blocks": len({name.split(".")[1] for name in refs if name.startswith("blocks.")}),
    }
    if "clamp" not in settings:
        once(
            f"clamp {source.name}",
            "the CDFNet's file does not tell its clamp; it is taken to be 2, as published",
            logging.WARNING,
        )
    try:
        return CDFNetConfig.from_dict({**settings, **seen})
    except ConfigError as error:
        raise CheckpointError(f"'{source}' has settings of no CDFNet: {error}") from error
