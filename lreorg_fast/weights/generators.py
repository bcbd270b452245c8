"""StyleGAN2 generators from the files that others published.

Shapes decide everything that a file does not say: resolution, channels, depth of the mapping.
The parameters are those of rosinality's layout, which other layouts are renamed to.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.log import once
from lreorg_fast.models.layers import fir_kernel
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.weights.checkpoint import Checkpoint, TensorRef, open_checkpoint, tensor_refs
from lreorg_fast.weights.layouts import wrong_kind
from lreorg_fast.weights.networks import ARCHITECTURE, materialize, read_network
from lreorg_fast.weights.nvlabs import NVLABS_KIND, read_nvlabs_generator
from lreorg_fast.weights.parts import LATENT_AVERAGE

_WANTED = "a StyleGAN2 generator"
_MARKER = "input.input"

# Where files keep the generator, the best first: of a training file the moving average, which is
# what their authors sample from; e4e's decoder; a bare state dict; one of DataParallel.
_PLACES: tuple[tuple[str | None, str], ...] = (
    ("g_ema", ""),
    ("state_dict", "decoder."),
    ("g", ""),
    ("state_dict", ""),
    (None, ""),
    (None, "module."),
)

_AVERAGE_SAMPLES = 10_000  # as e4e's code does where its file has no average
_AVERAGE_BATCH = 1_000

_FIR_MAX_ERROR = 1e-6


@dataclass(frozen=True)
class _Found:
    """A generator in rosinality's names, and what its file says beyond shapes."""

    refs: Mapping[str, TensorRef | Tensor]
    average: TensorRef | Tensor | None
    settings: Mapping[str, Any] = field(default_factory=dict)


def load_generator(path: str | os.PathLike[str]) -> StyleGAN2Generator:
    """Read a StyleGAN2 generator; nothing of the file is executed.

    Takes rosinality's training files (``g_ema``; ``g`` where that is missing) and converted
    official ones, bare state dicts of that layout, e4e checkpoints (their decoder), NVlabs
    pickles of stylegan2-ada-pytorch and of stylegan3's StyleGAN2 (``G_ema``), and what
    :func:`~lreorg_fast.weights.networks.write_network` wrote.

    Training files of rosinality have no average latent, which truncation needs. It is then the
    mean of 10,000 mapped latents from a fixed seed, as e4e's authors do where theirs is missing
    (rosinality's own sampling takes 4,096), so that the same file always gives the same pictures;
    that is logged once. Its standard error is a hundredth of the spread of w.

    Args:
        path: the file; its name does not matter.

    Returns:
        A frozen float32 module on the CPU, in evaluation mode, with its ``latent_avg`` set.

    Raises:
        CheckpointError: unreadable, another kind of file, another architecture or filter, or
            tensors that are missing, extra, of another shape, NaN or infinite.
    """
    source = Path(path)
    with open_checkpoint(source) as checkpoint:
        if ARCHITECTURE in checkpoint.metadata:
            net = read_network(checkpoint)
            if not isinstance(net, StyleGAN2Generator):
                raise wrong_kind(checkpoint, _WANTED)
            return net
        found = _find(checkpoint)
        if found is None:
            raise wrong_kind(checkpoint, _WANTED)
        config = _config(found, source)
        with torch.device("meta"):
            net = StyleGAN2Generator(config)
        materialize(net, found.refs, source, found.average)
    _check_filters(net, source)
    if found.average is None:
        once(
            f"estimated average {source.name}",
            "the generator's file has no average latent; truncation uses the mean of "
            f"{_AVERAGE_SAMPLES} latents from a fixed seed",
            logging.INFO,
        )
        net.latent_avg = mean_latent(net)
    return net


@torch.no_grad()
def mean_latent(net: StyleGAN2Generator) -> Tensor:
    """Mean of 10,000 mapped latents, ``(w_dim,)``, always from the same ones."""
    random = torch.Generator().manual_seed(0)
    total = torch.zeros(net.config.style_dim, dtype=torch.float64)
    for _ in range(_AVERAGE_SAMPLES // _AVERAGE_BATCH):
        z = torch.randn(_AVERAGE_BATCH, net.config.z_dim, generator=random)
        total += net.mapping(z).double().sum(dim=0)
    return (total / _AVERAGE_SAMPLES).float()


def _find(checkpoint: Checkpoint) -> _Found | None:
    tree = checkpoint.content
    if not isinstance(tree, Mapping):
        return None
    if checkpoint.kind == NVLABS_KIND:
        return _find_nvlabs(checkpoint)
    for name, prefix in _PLACES:
        state = tree if name is None else tree.get(name)
        refs = tensor_refs(state, prefix) if isinstance(state, Mapping) else {}
        if _MARKER not in refs:
            continue
        if name == "g":
            once(
                f"raw generator {checkpoint.path.name}",
                "the generator's file has no moving average 'g_ema'; its raw 'g' is taken",
            )
        average = refs.pop(LATENT_AVERAGE, None) if name is None else tree.get(LATENT_AVERAGE)
        return _Found(refs, _average(average, checkpoint.path))
    return None


def _find_nvlabs(checkpoint: Checkpoint) -> _Found:
    found = read_nvlabs_generator(checkpoint)
    return _Found(found.tensors, found.average, {"conv_clamp": found.conv_clamp})


def _average(entry: object, source: Path) -> Tensor | TensorRef | None:
    """A generator file's ``(w_dim,)``, or e4e's ``(num_ws, w_dim)`` of equal rows."""
    if entry is None:
        return None
    if not isinstance(entry, TensorRef) or len(entry.shape) not in (1, 2) or 0 in entry.shape:
        raise CheckpointError(
            f"'{source}' has a '{LATENT_AVERAGE}' that is not one row or one per layer; fetch or "
            "export it again"
        )
    if len(entry.shape) == 1:
        return entry
    rows = entry.read()
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        raise CheckpointError(
            f"'{source}' has a '{LATENT_AVERAGE}' whose rows differ, but a generator truncates "
            "toward one latent; use its encoder alone, or a file of the generator"
        )
    return rows[0].clone()


def _config(found: _Found, source: Path) -> StyleGAN2Config:
    """The shape of the generator, from the shapes of its tensors."""
    refs = found.refs

    def size(name: str, dimension: int) -> int:
        shape = refs[name].shape if name in refs else ()
        if len(shape) <= dimension:
            raise CheckpointError(
                f"'{source}' looks like {_WANTED}, but lacks '{name}' of a usable shape; fetch or "
                "export it again"
            )
        return shape[dimension]

    blocks = _count(refs, r"to_rgbs\.(\d+)\.conv\.weight")
    channels = {4: size("conv1.conv.weight", 1)}
    for block in range(min(blocks, 16)):
        channels[8 << block] = size(f"convs.{2 * block}.conv.weight", 1)
    try:
        return StyleGAN2Config(
            resolution=4 << min(blocks, 16),
            style_dim=size("conv1.conv.modulation.weight", 1),
            mapping_layers=_count(refs, r"style\.(\d+)\.weight"),
            channels=channels,
            z_dim=size("style.1.weight", 1),
            **found.settings,
        )
    except ConfigError as error:
        raise CheckpointError(
            f"'{source}' looks like {_WANTED}, but of an impossible shape: {error}"
        ) from error


def _count(refs: Mapping[str, TensorRef | Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in refs)


def _check_filters(net: StyleGAN2Generator, source: Path) -> None:
    """Files carry their resampling filter; another one than StyleGAN2's makes other pictures."""
    wanted = fir_kernel(4.0)
    for name, kernel in net.named_buffers():
        if name.endswith(".kernel") and float((kernel - wanted).abs().max()) > _FIR_MAX_ERROR:
            raise CheckpointError(
                f"'{source}' was trained with another filter than [1, 3, 3, 1] ('{name}' sums to "
                f"{float(kernel.sum()):g}, not 4); only StyleGAN2's own filter is supported"
            )
