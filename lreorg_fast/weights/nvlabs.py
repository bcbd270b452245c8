"""Generators inside NVlabs pickles: what they were built with, and their tensors.

A network object is one holder of the module's ``__dict__``; the source code beside it is never
looked at. Both stylegan2-ada-pytorch and stylegan3 (its StyleGAN2) write such files.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from lreorg_fast.errors import CheckpointError
from lreorg_fast.models.layers import fir_kernel
from lreorg_fast.weights.checkpoint import Checkpoint, PersistentObject, TensorRef

Shape: TypeAlias = tuple[int, ...]

NVLABS_KIND = "NVlabs pickle"

_NETWORK = "G_ema"  # the moving average, which its authors sample from; never the raw G
_DEEPEST = 8
_MOST_TENSORS = 4096
_FILTER = "resample_filter"
_FIR_MAX_ERROR = 1e-6

# Arguments of the classes that change what is computed, with the only value supported here.
# num_fp16_res is not among them: everything is computed in float32.
_FIXED: Mapping[str, Any] = {
    "architecture": "skip",
    "use_noise": True,
    "activation": "lrelu",
    "resample_filter": [1, 3, 3, 1],
    "normalize_latents": True,
}


@dataclass(frozen=True)
class NvlabsGenerator:
    """Tensors in rosinality's names, the average latent, and the clamp of the convolutions."""

    tensors: Mapping[str, Tensor]
    average: TensorRef
    conv_clamp: float | None


def read_nvlabs_generator(checkpoint: Checkpoint) -> NvlabsGenerator:
    """The moving average of the generator, as its authors' classes would have built it.

    Raises:
        CheckpointError: no StyleGAN2 generator of theirs, a class-conditional one, or options
            that this package does not compute.
    """
    source = checkpoint.path
    network = checkpoint.content.get(_NETWORK)
    if not isinstance(network, PersistentObject) or _class(network) != "Generator":
        found = _class(network) if isinstance(network, PersistentObject) else "nothing"
        raise CheckpointError(
            f"'{source}' holds {found} and not a Generator as '{_NETWORK}'; give a network pickle "
            "of stylegan2-ada-pytorch or stylegan3"
        )
    _check_options(network, source)
    refs = dict(_tensors(network, "", _DEEPEST))
    if _CONSTANT not in refs or len(refs) > _MOST_TENSORS:
        raise CheckpointError(
            f"'{source}' is no StyleGAN2 generator (StyleGAN3's own networks have other layers); "
            "give one of stylegan2-ada-pytorch, or of stylegan3 with --cfg=stylegan2"
        )
    average = refs.pop("mapping.w_avg", None)
    if average is None:
        raise CheckpointError(f"'{source}' lacks 'mapping.w_avg'; fetch it again")
    return NvlabsGenerator(_renamed(refs, source), average, _clamp(network, source))


def _class(network: PersistentObject) -> str:
    return str(network.class_name).rpartition(".")[2]


def _mapping(value: object) -> Mapping[str, Any]:
    """A dict, or the attributes of dnnlib's EasyDict."""
    attributes = getattr(value, "attributes", value)
    return attributes if isinstance(attributes, Mapping) else {}


def _options(network: PersistentObject) -> Iterator[tuple[str, Any]]:
    """Every argument of the constructor: stylegan3 has them flat, ada in two nested dicts."""
    for name, value in _mapping(network.state.get("_init_kwargs")).items():
        nested = _mapping(value)
        yield from nested.items() if nested else ((name, value),)


def _check_options(network: PersistentObject, source: Path) -> None:
    for name, wanted in (("c_dim", 0), ("img_channels", 3)):
        value = network.state.get(name)
        if value != wanted:
            reason = "is conditional on classes" if name == "c_dim" else "makes other pictures"
            raise CheckpointError(
                f"'{source}' has a generator with {name} = {reprlib.repr(value):.40}, which "
                f"{reason}; only {name} = {wanted} is supported"
            )
    for name, value in _options(network):
        given = list(value) if isinstance(value, tuple) else value
        if name in _FIXED and given != _FIXED[name]:
            raise CheckpointError(
                f"'{source}' has a generator built with {name} = {reprlib.repr(value):.60}, but "
                f"only {_FIXED[name]!r} is supported; give one trained with that"
            )


def _tensors(network: PersistentObject, prefix: str, depth: int) -> Iterator[tuple[str, TensorRef]]:
    """What ``state_dict()`` would list, in its order."""
    state = network.state
    skipped = state.get("_non_persistent_buffers_set")
    skipped = skipped if isinstance(skipped, set | frozenset) else ()
    for group in ("_parameters", "_buffers"):
        for name, value in _mapping(state.get(group)).items():
            if isinstance(value, TensorRef) and not (group == "_buffers" and name in skipped):
                yield prefix + name, value
    if depth:
        for name, module in _mapping(state.get("_modules")).items():
            if isinstance(module, PersistentObject):
                yield from _tensors(module, f"{prefix}{name}.", depth - 1)


def _clamp(network: PersistentObject, source: Path) -> float | None:
    """The limit of the layers themselves, since its default differs between the repositories."""
    synthesis = _mapping(network.state.get("_modules")).get("synthesis")
    found = {value for name, value in _plain(synthesis, _DEEPEST) if name == "conv_clamp"}
    if len(found) > 1 or not all(value is None or _is_limit(value) for value in found):
        raise CheckpointError(
            f"'{source}' has layers with the limits conv_clamp = {sorted(map(str, found))!s:.100}, "
            "but one positive number or None for all is supported"
        )
    value = found.pop() if found else None
    return None if value is None else float(value)


def _is_limit(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(str(value)) < math.inf


def _plain(module: object, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(module, PersistentObject):
        return
    for name, value in module.state.items():
        if value is None or isinstance(value, str | int | float):
            yield name, value
    if depth:
        for child in _mapping(module.state.get("_modules")).values():
            yield from _plain(child, depth - 1)


_MAPPING = re.compile(r"mapping\.fc(\d{1,3})\.(weight|bias)")
_LAYER = re.compile(r"synthesis\.b(\d{1,4})\.(conv0|conv1|torgb)\.(.+)")
_CONSTANT = "synthesis.b4.const"
# Ends of names, and the shape with the dimensions that rosinality's layout has in front or behind.
_ENDS: Mapping[str, tuple[str, Callable[[Shape], Shape]]] = {
    "weight": ("conv.weight", lambda shape: (1, *shape)),
    "affine.weight": ("conv.modulation.weight", lambda shape: shape),
    "affine.bias": ("conv.modulation.bias", lambda shape: shape),
    "noise_strength": ("noise.weight", lambda shape: (1, *shape)),
    "bias": ("activate.bias", lambda shape: shape),
}


def rosinality_entry(name: str, shape: Shape) -> tuple[str, Shape] | None:
    """Rosinality's name and shape of an entry; None for one that its layout does not have."""
    if name == _CONSTANT:
        return "input.input", (1, *shape)
    if match := _MAPPING.fullmatch(name):
        return f"style.{int(match[1]) + 1}.{match[2]}", shape
    match = _LAYER.fullmatch(name)
    if match is None:
        return None
    block, layer, end = int(match[1]).bit_length() - 4, match[2], match[3]
    index = 2 * block + (layer == "conv1")  # -1 for the only convolution at 4 pixels
    if end == "noise_const" and layer != "torgb":
        return f"noises.noise_{index + 1}", (1, 1, *shape)
    if end not in _ENDS:
        return None
    target, reshape = _ENDS[end]
    if layer == "torgb":
        head = "to_rgb1" if block < 0 else f"to_rgbs.{block}"
        return (
            (f"{head}.bias", (1, *shape, 1, 1))
            if end == "bias"
            else (f"{head}.{target}", reshape(shape))
        )
    return f"{'conv1' if index < 0 else f'convs.{index}'}.{target}", reshape(shape)


def _renamed(refs: Mapping[str, TensorRef], source: Path) -> dict[str, Tensor]:
    """Rosinality's names and shapes; values stay, except filters: they sum to 1 here, 4 there."""
    tensors: dict[str, Tensor] = {}
    for name, ref in refs.items():
        if name.endswith(_FILTER):
            _check_filter(name, ref, source)
            continue
        found = rosinality_entry(name, tuple(ref.shape))
        if found is None or found[0] in tensors:
            raise CheckpointError(
                f"'{source}' has the entry '{name:.80}', which no supported generator has; give "
                "one of stylegan2-ada-pytorch or of stylegan3's StyleGAN2"
            )
        tensors[found[0]] = ref.read().reshape(found[1])
    convolutions = sum(name.endswith(".noise.weight") for name in tensors) - 1
    for block in range(convolutions // 2):
        for name in (f"convs.{2 * block}.conv.blur.kernel", f"to_rgbs.{block}.upsample.kernel"):
            tensors[name] = fir_kernel(4.0)
    return tensors


def _check_filter(name: str, ref: TensorRef, source: Path) -> None:
    right = ref.shape == (4, 4) and float((ref.read() - fir_kernel(1.0)).abs().max()) < (
        _FIR_MAX_ERROR
    )
    if not right:
        raise CheckpointError(
            f"'{source}' has another filter than [1, 3, 3, 1] in '{name}'; only StyleGAN2's own "
            "filter is supported"
        )
