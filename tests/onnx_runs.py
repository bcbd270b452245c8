"""Exported models in onnxruntime, and what is fed to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from lreorg_fast.export.onnx_stages import Networks

Run = Callable[..., dict[str, np.ndarray]]


def session_of(model: Any) -> Run:
    """Runs a model, or a file; gives its outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(**inputs: Any) -> dict[str, np.ndarray]:
        given = {name: np.asarray(value) for name, value in inputs.items()}
        return dict(zip(names, session.run(None, given), strict=True))

    return run


def latents(networks: Networks, count: int) -> torch.Tensor:
    """W+ latents (count, rows, dim) of people that the generator makes."""
    random = torch.Generator().manual_seed(count)
    generator = networks.generator
    z = torch.randn(count, generator.config.z_dim, generator=random)
    return generator.mapping(z)[:, None].expand(-1, networks.rows, -1).contiguous()


def pictures(networks: Networks, count: int) -> torch.Tensor:
    """(count, 3, R, R) in [-1, 1]."""
    with torch.no_grad():
        return networks.generator.synthesis(latents(networks, count)).clamp(-1, 1)


def features(networks: Networks, count: int, seed: int = 3) -> np.ndarray:
    """Identity features (count, dim) of the codebook."""
    members = networks.tables["codebook.members"].float().numpy()
    rows = np.random.default_rng(seed).integers(0, len(members), count)
    return members[rows, 0].astype(np.float32)


def distance(found: Any, wanted: Any, relative: bool = True) -> float:
    """The largest difference, relative to the largest value unless said otherwise."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max() if relative else 1.0
    return float(np.abs(found - wanted).max() / scale)


def facts(model: Any) -> Mapping[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}
