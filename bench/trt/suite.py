"""The stages of ``bench/trt_check.py`` as data, in the order of running."""

from __future__ import annotations

from bench.gpu.command import Suite
from bench.gpu.stages import BUILD, DEVICE, Stage
from bench.trt import report

TENSORRT = "tensorrt"
_NEEDS = (DEVICE, TENSORRT, BUILD)

STAGES = (
    Stage(DEVICE, "what the machine is", "bench.gpu.device:describe", 30, correctness=True),
    Stage(
        TENSORRT,
        "TensorRT, its headers and the peers",
        "bench.trt.requirements:describe",
        30,
        correctness=True,
    ),
    Stage(
        BUILD,
        "the package and the plugin, for this GPU",
        "bench.gpu.build:build",
        150,
        correctness=True,
        needs=(DEVICE,),
    ),
    Stage(
        "engine",
        "a small network: streams, graphs, refit, the cache, the plugin",
        "bench.trt.engine:check",
        180,
        correctness=True,
        needs=_NEEDS,
    ),
    Stage("cdfnet", "the reorganization", "bench.trt.measure:cdfnet", 300, needs=_NEEDS),
    Stage("encoder", "picture to latent", "bench.trt.measure:encoder", 300, needs=_NEEDS),
    Stage("generator", "latent to picture", "bench.trt.measure:generator", 300, needs=_NEEDS),
    Stage(
        "pipeline",
        "picture to picture",
        "bench.trt.measure:pipeline",
        510,
        needs=_NEEDS,
        grows=True,
    ),
)
SECONDS = sum(stage.seconds for stage in STAGES)

TRT_CHECK = Suite(
    "trt_check",
    "Build, check and time TensorRT engines on this machine's GPU.",
    STAGES,
    SECONDS,
    report.summary,
    report.markdown,
    suffix="_tensorrt",
)
