"""FID's Inception network from the file that pytorch-fid published."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from lreorg_fast.errors import CheckpointError
from lreorg_fast.models.inception import FidInception
from lreorg_fast.weights.checkpoint import open_checkpoint, tensor_refs
from lreorg_fast.weights.layouts import wrong_kind
from lreorg_fast.weights.networks import materialize

_MARKER = "Mixed_7c.branch_pool.conv.weight"
_OF_IMAGENET = "AuxLogits."


def load_inception(path: str | os.PathLike[str]) -> FidInception:
    """Read the network of the Frechet inception distance; nothing of the file is executed.

    Args:
        path: ``pt_inception-2015-12-05-6726825d.pth``, the bare state dict that pytorch-fid and
            torch-fidelity share, or the same tensors as safetensors; the name does not matter.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode; give it to
        :func:`lreorg_fast.evaluation.inception_statistics`.

    Raises:
        CheckpointError: unreadable, another kind of file, or tensors that are missing, extra, of
            another shape, NaN or infinite. torchvision's Inception, trained on ImageNet, is
            refused by name: it would load in part and give other distances.
    """
    source = Path(path)
    with open_checkpoint(source) as checkpoint:
        refs = tensor_refs(checkpoint.content)
        if _MARKER not in refs:
            raise wrong_kind(checkpoint, "the Inception network of FID")
        if any(name.startswith(_OF_IMAGENET) for name in refs):
            raise CheckpointError(
                f"'{source}' is torchvision's Inception for ImageNet, whose features give other "
                "distances; fetch pt_inception-2015-12-05-6726825d.pth of pytorch-fid"
            )
        with torch.device("meta"):
            network = FidInception()
        materialize(network, refs, source)
        return network
