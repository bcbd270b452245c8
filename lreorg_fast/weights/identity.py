"""Identity networks from the files that their authors published.

Four families are told apart by the names in the file, their depth by the number of units. The
state dict is looked for by those names, wherever a trainer put it and whatever stands in front:
Lightning, DataParallel and arcface_torch's own checkpoints need no branch of their own.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from lreorg_fast.errors import CheckpointError
from lreorg_fast.log import once
from lreorg_fast.models.adaface import AdaFaceConfig, AdaFaceNet
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.iresnet import IResNet, IResNetConfig
from lreorg_fast.models.residual import ResidualConfig
from lreorg_fast.weights.checkpoint import (
    Checkpoint,
    TensorRef,
    open_checkpoint,
    tensor_refs,
)
from lreorg_fast.weights.layouts import ARCHITECTURE, wrong_kind
from lreorg_fast.weights.networks import materialize, read_network

IdentityNet: TypeAlias = FaceBackbone | IResNet | AdaFaceNet

_PUBLISHED = ResidualConfig()  # input size, stem, widths and outputs of every public file
_COUNTER = ".num_batches_tracked"

# A classifier around the network, as AdaFace's training saves it: of training only, left out.
_TRAINING_ONLY = "head."
_LATENT_ROW = "styles.0."  # of an encoder, whose trunk has the names of TreB1eN's network
_OWN = ("face-backbone", "iresnet", "adaface")  # of ARCHITECTURES
_PLACES_IN_MESSAGES, _WIDTHS_IN_MESSAGES = 3, 8
_DEEPEST = 4  # mappings around a state dict; trainers use two


@dataclass(frozen=True)
class _Family:
    """How one author's state dicts look: all else follows from shapes."""

    title: str
    marker: str  # a name that no family after it has
    counted: tuple[str, str]  # beginning and end of one name per unit; its rows are the width
    linear: str
    depths: Mapping[str, tuple[int, ...]]
    build: Callable[[tuple[int, ...]], IdentityNet]


_ADAFACE_DEPTHS = {
    "IR-18": (2, 2, 2, 2),
    "IR-34": (3, 4, 6, 3),
    "IR-50": (3, 4, 14, 3),
    "IR-101": (3, 13, 30, 3),
}
_FAMILIES = (
    _Family(
        "TreB1eN IR-SE",
        "body.0.res_layer.5.fc1.weight",
        ("body.", ".res_layer.3.weight"),
        "output_layer.3.weight",
        {
            "IR-SE50": (3, 4, 14, 3),
            "IR-SE100": (3, 13, 30, 3),
            "IR-SE152": (3, 8, 36, 3),
        },
        lambda units: FaceBackbone(BackboneConfig(units=units)),
    ),
    _Family(
        "AdaFace IR-SE",
        "body.0.res_layer.se_block.fc1.weight",
        ("body.", ".res_layer.4.weight"),
        "output_layer.3.weight",
        {name.replace("IR-", "IR-SE"): units for name, units in _ADAFACE_DEPTHS.items()},
        lambda units: AdaFaceNet(AdaFaceConfig(units=units, squeeze_excite=True)),
    ),
    _Family(
        "AdaFace IR",
        "body.0.res_layer.5.running_mean",
        ("body.", ".res_layer.4.weight"),
        "output_layer.3.weight",
        _ADAFACE_DEPTHS,
        lambda units: AdaFaceNet(AdaFaceConfig(units=units)),
    ),
    _Family(
        "insightface iresnet",
        "layer1.0.prelu.weight",
        ("layer", ".conv2.weight"),
        "fc.weight",
        {
            "iresnet18": (2, 2, 2, 2),
            "iresnet34": (3, 4, 6, 3),
            "iresnet50": (3, 4, 14, 3),
            "iresnet100": (3, 13, 30, 3),
            "iresnet200": (6, 26, 60, 6),
        },
        lambda units: IResNet(IResNetConfig(units=units)),
    ),
)


def load_identity(path: str | os.PathLike[str]) -> IdentityNet:
    """Read an identity network; nothing of the file is executed.

    Takes, bare or as trainers wrap them, in float32 or half precision: TreB1eN's IR-SE50
    (``model_ir_se50.pth``, also of pSp and e4e), insightface's iresnet18 to 200
    (``backbone.pth``), AdaFace's IR-18 to 101 and IR-SE (Lightning ``.ckpt``), and what
    :func:`~lreorg_fast.weights.networks.write_network` wrote, which may have any size.

    Args:
        path: the file; its name does not matter.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode: ``net(x)`` takes ``(N, 3, 112,
        112)`` RGB in [-1, 1] and gives ``(N, 512)`` of unit length, ``net.raw(x)`` the same
        before normalization. AdaFace's networks were trained on BGR and swap the channels
        themselves.

    Raises:
        CheckpointError: unreadable, another kind of file, an unknown depth, or tensors that are
            missing, extra or of another shape.
    """
    source = Path(path)
    with open_checkpoint(source) as checkpoint:
        if ARCHITECTURE in checkpoint.metadata:
            return _own(checkpoint)
        family, refs = _find(checkpoint)
        with torch.device("meta"):
            net = family.build(_units(family, refs, source))
        _check_head(family, refs, source)
        counters = _missing_counters(net, refs)
        materialize(net, {**refs, **counters}, source)
    if counters:
        once(
            f"identity counters {source.name}",
            "the file of an identity network has no num_batches_tracked, as those of old PyTorch "
            "versions; these counters of BatchNorm, which only training reads, are set to 0",
            logging.INFO,
        )
    return net


def _own(checkpoint: Checkpoint) -> IdentityNet:
    """The network of a file of this package, of any size."""
    if checkpoint.metadata[ARCHITECTURE] not in _OWN:
        raise wrong_kind(checkpoint, "an identity network")
    net = cast("IdentityNet", read_network(checkpoint))
    if isinstance(net, FaceBackbone) and not net.config.normalize:
        raise CheckpointError(
            f"'{checkpoint.path}' holds a face network whose result is not of unit length, as of "
            "an attribute classifier; give the file of an identity network"
        )
    return net


def _find(checkpoint: Checkpoint) -> tuple[_Family, dict[str, TensorRef]]:
    """The one place of the file whose names are those of a family, and what stands there."""
    found: dict[str, tuple[_Family, dict[str, TensorRef]]] = {}
    for where, refs in _state_dicts(checkpoint.content, "", _DEEPEST):
        for family in _FAMILIES:
            for prefix in _prefixes(refs, family.marker):
                found.setdefault(where + prefix, (family, _below(prefix, refs)))
    if not found:
        raise wrong_kind(checkpoint, "an identity network")
    if len(found) > 1:
        places = ", ".join(f"'{place}'" for place in list(found)[:_PLACES_IN_MESSAGES])
        raise CheckpointError(
            f"'{checkpoint.path}' holds {len(found)} identity networks, below {places}; save the "
            "state dict of the one that is wanted in a file of its own"
        )
    return next(iter(found.values()))


def _state_dicts(tree: Any, where: str, depth: int) -> Iterator[tuple[str, dict[str, TensorRef]]]:
    """Every mapping of the file that holds tensors, with its place in the file."""
    if not isinstance(tree, Mapping) or depth == 0:
        return
    refs = tensor_refs(tree)
    if refs and not any(_LATENT_ROW in name for name in refs):
        yield where, refs
    for name, value in tree.items():
        yield from _state_dicts(value, f"{where}{name}.", depth - 1)


def _prefixes(refs: Mapping[str, TensorRef], marker: str) -> list[str]:
    """What stands in front of a marker: nothing, or what wrappers of the network added."""
    fronts = (name.removesuffix(marker) for name in refs if name.endswith(marker))
    return [front for front in fronts if not front or front.endswith(".")]


def _below(prefix: str, refs: Mapping[str, TensorRef]) -> dict[str, TensorRef]:
    """The state dict behind a prefix; what has another name stays, to be refused as extra."""
    return {
        name.removeprefix(prefix): ref
        for name, ref in refs.items()
        if not name.startswith(_TRAINING_ONLY)
    }


def _units(family: _Family, refs: Mapping[str, TensorRef], source: Path) -> tuple[int, ...]:
    """How many units each group has, from the names and widths of the file."""
    begin, end = family.counted
    rows = Counter(
        ref.shape[0]
        for name, ref in refs.items()
        if name.startswith(begin) and name.endswith(end) and ref.shape
    )
    units = tuple(rows[width] for width in _PUBLISHED.widths)
    if set(rows) == set(_PUBLISHED.widths) and units in family.depths.values():
        return units
    known = ", ".join(f"{name} {units}" for name, units in family.depths.items())
    widths = sorted(rows)[:_WIDTHS_IN_MESSAGES]
    raise CheckpointError(
        f"'{source}' looks like {family.title}, but its groups of widths {widths} have "
        f"{tuple(rows[width] for width in widths)} units; known are {known} at widths "
        f"{list(_PUBLISHED.widths)}; fetch the file again, or give one of these"
    )


def _check_head(family: _Family, refs: Mapping[str, TensorRef], source: Path) -> None:
    """The linear layer tells picture size and feature length; both are fixed here."""
    shape: tuple[int, ...] = refs[family.linear].shape if family.linear in refs else ()
    if len(shape) != 2 or shape == (_PUBLISHED.outputs, _PUBLISHED.flat):
        return
    size = 16 * math.sqrt(shape[1] / _PUBLISHED.widths[-1])
    raise CheckpointError(
        f"'{source}' looks like {family.title} for pictures of {size:g} pixels and features of "
        f"{shape[0]} numbers ('{family.linear}' is {list(shape)}); identity networks here take "
        f"{_PUBLISHED.input_size} pixels and give {_PUBLISHED.outputs} numbers"
    )


def _missing_counters(net: nn.Module, refs: Mapping[str, TensorRef]) -> dict[str, Tensor]:
    """Zeros for the counters that old PyTorch versions did not have."""
    return {
        name: torch.zeros((), dtype=torch.int64)
        for name in net.state_dict()
        if name.endswith(_COUNTER) and name not in refs
    }
