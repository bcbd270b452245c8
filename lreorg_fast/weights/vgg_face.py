"""VGG-Face from the files that people have; the input convention follows the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.vgg_face import CONVENTIONS, VggFace, VggFaceConfig
from lreorg_fast.weights.checkpoint import TensorRef, open_checkpoint, tensor_refs
from lreorg_fast.weights.layouts import wrong_kind
from lreorg_fast.weights.networks import materialize

# What the convolutions are called -> the convention of the files that call them so.
_LAYOUTS = {"conv": "dag", "conv_": "lua"}
_CLASSIFIER = ("fc6.", "fc7.", "fc8.")


def load_vgg_face(
    path: str | os.PathLike[str], convention: str | None = None, classifier: bool = True
) -> VggFace:
    """Read VGG-Face; nothing of the file is executed.

    Takes ``vgg_face_dag.pth`` (S. Albanie) and state dicts of the Lua network's port
    (prlz77/vgg-face.pytorch, ``conv_1_1``), as torch file or safetensors, bare or under
    ``state_dict``.

    Args:
        path: the file; its name does not matter.
        convention: None decides by the names of the layers. Names cannot tell a network that was
            converted from Caffe for its own input; say ``"caffe"`` for it.
        classifier: False leaves out fc6 to fc8, which are then not read: 58 MB instead of 580.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode.

    Raises:
        ConfigError: an unknown convention.
        CheckpointError: unreadable, another kind of file, or tensors that are missing, extra, of
            another shape, NaN or infinite.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise ConfigError(
            f"convention is {convention!r}, but must be None or one of {', '.join(CONVENTIONS)}"
        )
    source = Path(path)
    with open_checkpoint(source) as checkpoint:
        found = next(_candidates(checkpoint.content), None)
        if found is None:
            raise wrong_kind(checkpoint, "a VGG-Face network")
        layout, refs = found
        if not classifier:
            refs = {name: ref for name, ref in refs.items() if not name.startswith(_CLASSIFIER)}
        config = VggFaceConfig(convention or _LAYOUTS[layout], classifier)
        with torch.device("meta"):
            network = VggFace(config)
        materialize(network, refs, source)
        return network


def _candidates(content: Any) -> Iterator[tuple[str, dict[str, TensorRef]]]:
    """How the convolutions are called, and the tensors under the names of the first layout."""
    if not isinstance(content, Mapping):
        return
    for state in (content, content.get("state_dict")):
        refs = tensor_refs(state) if isinstance(state, Mapping) else {}
        for start in _LAYOUTS:
            if f"{start}5_3.weight" in refs:
                yield start, {_renamed(name, start): ref for name, ref in refs.items()}


def _renamed(name: str, start: str) -> str:
    return f"conv{name[len(start) :]}" if name.startswith(start) else name
