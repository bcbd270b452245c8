"""Full-size networks with random weights, by stage: what is exported, and the same in PyTorch."""

from __future__ import annotations

import copy
import dataclasses
import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.full_size import full_size_bundle, random_networks
from bench.gpu.channel import Channel, Context
from bench.gpu.variants import AUTOTUNE, Call, capture, compile_blocks
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.models.inference import prepare_encoder, prepare_generator
from lreorg_fast.weights.bundle import Bundle, open_bundle

IDENTITY = "identity"
# Inputs by stage, as docs/export.md names them.
INPUTS = {
    "encoder": ("picture",),
    "cdfnet": ("latent", "replace_identity"),
    "generator": ("latent",),
    "pipeline": ("picture", "replace_identity"),
}
STAGES = tuple(INPUTS)

Run = Callable[..., Tensor]


@dataclasses.dataclass
class Networks:
    """Plain modules on a device, and the bundle that holds the same weights.

    Attributes:
        modules: encoder, generator, cdfnet; float32.
        keywords: features by name, (1, dim).
        size: of the encoder's pictures, pixels.
    """

    modules: Mapping[str, Any]
    keywords: Mapping[str, Tensor]
    bundle: Bundle
    size: int

    @classmethod
    def full_size(cls, folder: Path, device: str) -> Networks:
        """The same ones in every process: drawn from a seed."""
        modules = random_networks()
        place = folder / "bundle"
        if not place.is_dir():
            full_size_bundle(place, modules)
        return cls.of(open_bundle(place), modules, device)

    @classmethod
    def of(cls, bundle: Bundle, modules: Mapping[str, Any], device: str) -> Networks:
        tables = bundle.tensors("tables")
        used = (IDENTITY, *DEFAULT_KEEP)
        keywords = {name: tables[f"keyword.{name}"][None].float().to(device) for name in used}
        moved = {role: copy.deepcopy(module).to(device) for role, module in modules.items()}
        return cls(moved, keywords, bundle, moved["encoder"].config.input_size)

    def changed(self, folder: Path) -> Networks:
        """With another CDFNet and other keyword features, written to a bundle in ``folder``."""
        modules = {role: copy.deepcopy(module).cpu() for role, module in self.modules.items()}
        with torch.no_grad():
            for parameter in modules["cdfnet"].parameters():
                parameter.mul_(0.7)
        shutil.rmtree(folder, ignore_errors=True)
        device = next(self.modules["cdfnet"].parameters()).device
        return Networks.of(full_size_bundle(folder, modules), modules, str(device))

    def inputs(self, stage: str, faces: int) -> dict[str, Tensor]:
        """Drawn from a seed on the CPU, so that every device gets the same."""
        draw = torch.Generator().manual_seed(faces)
        net, rows = self.modules["cdfnet"], self.modules["generator"].num_ws
        shapes = {
            "picture": (faces, 3, self.size, self.size),
            "latent": (faces, rows, net.config.dim),
            "replace_identity": (faces, net.config.dim),
        }
        device = next(net.parameters()).device
        made = {}
        for name in INPUTS[stage]:
            noise = torch.randn(shapes[name], generator=draw)
            made[name] = (noise.clamp(-1, 1) if name == "picture" else noise).to(device)
        return made

    def run(self, stage: str, dtype: torch.dtype) -> Run:
        """The stage in PyTorch, eagerly; float32 results of float32 inputs."""
        return functools.partial(self._through, self._parts(stage, dtype), dtype)

    def compiled(self, stage: str, dtype: torch.dtype, inputs: Mapping[str, Tensor]) -> Call:
        """torch.compile(max-autotune) of every part, as one CUDA graph.

        CDFNet is compiled block by block: as one graph it takes Inductor many minutes, and between
        blocks nothing could be fused but an addition.
        """
        parts = self._parts(stage, dtype)
        for role in parts:
            if role == "cdfnet":
                compile_blocks(parts[role], AUTOTUNE)
            else:
                parts[role] = torch.compile(parts[role], mode=AUTOTUNE)
        return capture(functools.partial(self._through, parts, dtype, *inputs.values()))

    def _parts(self, stage: str, dtype: torch.dtype) -> dict[str, Any]:
        """Functions by role, in the order of running."""
        low = dtype != torch.float32
        parts: dict[str, Any] = {}
        if stage in ("encoder", "pipeline"):
            net = self.modules["encoder"]
            parts["encoder"] = prepare_encoder(net, dtype) if low else net
        if stage in ("cdfnet", "pipeline"):
            parts["cdfnet"] = copy.deepcopy(self.modules["cdfnet"]).to(dtype)
        if stage in ("generator", "pipeline"):
            net = self.modules["generator"]
            parts["generator"] = (prepare_generator(net, dtype) if low else net).synthesis
        return parts

    def _through(
        self, parts: Mapping[str, Any], dtype: torch.dtype, x: Tensor, *feature: Tensor
    ) -> Tensor:
        for role, part in parts.items():
            x = self._reorganized(part, dtype, x, *feature) if role == "cdfnet" else part(x)
        return x

    def _reorganized(self, net: Any, dtype: torch.dtype, latent: Tensor, feature: Tensor) -> Tensor:
        keywords = {name: k.to(dtype) for name, k in self.keywords.items()}
        s = latent.to(dtype).flatten(0, 1)
        f = feature.to(dtype)[:, None].expand(latent.shape).flatten(0, 1)
        made: Tensor = net.reorganize(s, keywords, {IDENTITY: f}, DEFAULT_KEEP)
        return made.reshape(latent.shape).float()


def prepared(
    context: Context, channel: Channel, networks: Networks | None
) -> tuple[Path, Networks]:
    """Folder of the engines, and the networks of a stage: the full-size ones where none are given.

    Every step of ``channel`` waits for the device from here on, where there is one.
    """
    if context.device == "cuda":
        channel.check_device = torch.cuda.synchronize
    folder = context.work / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    if networks is None:
        networks = Networks.full_size(folder, context.device)
    return folder, networks
