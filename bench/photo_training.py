"""``python -m bench.photo_training``: steps of keyword swap training at the size of photographs.

StyleGAN2 at 256 or 1024 pixels, IR-SE50, ViT-B/32 and the paper's CDFNet, all with random weights
of the published shapes: times and memory do not depend on the values. One step of each kind is
timed after one to warm up, with ``lf.training``'s own code. ``--device cuda`` was not yet run on a
GPU. Writes ``bench/results/<name>.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch

import lreorg_fast as lf
from bench.machine import describe
from lreorg_fast.files import atomic_file
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models import FaceBackbone, StyleGAN2Generator
from lreorg_fast.models.backbone import BackboneConfig
from lreorg_fast.models.stylegan2 import StyleGAN2Config, published_channels
from lreorg_fast.training.judges import WeightsJudges
from lreorg_fast.training.keyword_swap import KeywordSwap, SwapTrainingConfig
from lreorg_fast.training.trainer import leave_saddle
from lreorg_fast.weights.clip import Clip

CLIP = "ViT-B-32-quickgelu"
KINDS = ("identity", "gender", "plan")
KEPT = ("gender", "age", "expression", "makeup")


def judges(resolution: int, device: str, dtype: torch.dtype) -> WeightsJudges:
    """Random networks of the published shapes."""
    import open_clip

    config = StyleGAN2Config(resolution, channels=published_channels(resolution))
    clip = Clip(
        open_clip.create_model(CLIP).eval(), 77, 224, _tokenizer=open_clip.SimpleTokenizer()
    )
    return WeightsJudges(
        StyleGAN2Generator(config).to(device),
        FaceBackbone(BackboneConfig()).to(device),
        clip.to(device),
        KEYWORDS,
        dtype=dtype,
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step of each kind, and memory."""
    torch.manual_seed(0)
    device = arguments.device
    dtype = getattr(torch, arguments.generator_dtype)
    asked = judges(arguments.resolution, device, dtype)
    net = lf.CDFNet(lf.CDFNetConfig()).to(device)
    leave_saddle(net)
    config = SwapTrainingConfig(
        batch=arguments.batch,
        keyword_shares=dict.fromkeys(KEYWORDS, 1.0),
        kept_keywords=KEPT,
        keep_probability=1.0,
    )
    swap = KeywordSwap(net, asked, asked.keyword_features(), config)
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.999))

    def step(kind: str) -> float:
        start = time.perf_counter()
        terms = swap.plan_terms() if kind == "plan" else swap.swap_terms(kind)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        if not all(bool(torch.isfinite(term)) for term in terms.values()):
            raise SystemExit(f"a loss of a {kind} step is not finite")
        return time.perf_counter() - start

    step(KINDS[0])
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind, times in seconds.items():
            times.append(step(kind))
            print(f"{kind}: {times[-1]:.2f} s", flush=True)
    return {"seconds": seconds, "peak_bytes": _peak(device), "parameters": _count(net)}


def _peak(device: str) -> int:
    """Of the process's resident memory, or of what torch took on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _count(net: lf.CDFNet) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.photo_training", description=__doc__)
    parser.add_argument("--resolution", type=int, default=256, choices=(256, 1024))
    parser.add_argument("--batch", type=int, default=16, help="pairs of latents")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--generator-dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="about the machine, kept in the results")
    parser.add_argument("--output", type=Path, help="path of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = describe()
    measured = measure(arguments)
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    output = arguments.output or (
        Path(__file__).parent / "results" / f"photo_training_{arguments.resolution}.json"
    )
    data = {"machine": machine, **settings, **measured}
    with atomic_file(output, overwrite=True) as file:
        file.write((json.dumps(data, indent=1) + "\n").encode())
    print(f"peak {measured['peak_bytes'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
