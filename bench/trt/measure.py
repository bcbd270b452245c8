"""The stages that build full-size engines, compare them with PyTorch and time both by turns."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lreorg_fast as lf
from bench.gpu.channel import Channel, Context, WrongResult
from bench.gpu.timing import COLD, WARM, Call, Clock, by_turns
from bench.trt.networks import Networks, prepared
from bench.trt.requirements import CUDA_PROVIDER
from lreorg_fast.export import trt_runtime

FACES = (1, 8)
DTYPES = ("float16", "bfloat16")
# RMS error over the RMS of the float32 result without TF32. bfloat16 keeps 8 bits, and the passes
# of a reorganization amplify what is rounded: see docs/engine.md for the same in PyTorch.
LIMITS = {"float16": 0.03, "bfloat16": 0.1}

_REORGANIZES = ("cdfnet", "pipeline")
_BUILD_SECONDS = 240.0
_CALL_SECONDS = 60.0
_COMPILE_SECONDS = 240.0
_ROUNDS = 20
_FLUSH_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Engine:
    """An engine that is built: its dtype, whether the plugin may run, and its file."""

    dtype: str
    plugin: str

    @property
    def name(self) -> str:
        return f"tensorrt {self.dtype}{', no plugin' if self.plugin == 'never' else ''}"


def engines(stage: str) -> list[Engine]:
    """With the plugin where it is, and without it, so that it can be judged."""
    choices = ("auto", "never") if stage in _REORGANIZES else ("auto",)
    return [Engine(dtype, plugin) for dtype in DTYPES for plugin in choices]


def measure(
    stage: str, context: Context, channel: Channel, networks: Networks | None = None
) -> None:
    """Keep ``builds`` and ``cases``: what was built; times and errors by number of faces.

    Args:
        networks: replace the full-size ones, for tests.
    """
    folder, networks = prepared(context, channel, networks)
    built = build(stage, folder, channel, networks)
    clock = Clock(context.device, _FLUSH_BYTES)
    cases: list[dict[str, Any]] = list(context.kept.get("cases", []))
    for faces in FACES[len(cases) :]:
        with torch.inference_mode():
            cases.append(_case(stage, faces, context, channel, networks, built, clock))
        channel.keep("cases", value=cases)


def build(stage: str, folder: Path, channel: Channel, networks: Networks) -> dict[str, Path]:
    """Engines by name; each is a step of its own and may fail alone."""
    built = {}
    for engine in engines(stage):
        make = functools.partial(_build, stage, engine, folder, channel, networks)
        path = channel.attempt(f"build {engine.name}", _BUILD_SECONDS, make)
        if path is not None:
            built[engine.name] = path
    return built


def _build(stage: str, engine: Engine, folder: Path, channel: Channel, networks: Networks) -> Path:
    path = folder / f"{stage}-{engine.dtype}-{engine.plugin}.engine"
    made = lf.export.tensorrt(
        networks.bundle,
        path,
        stage=stage,
        dtype=engine.dtype,
        plugin=engine.plugin,
        profiles=FACES,
        timing_cache=folder / "timings",
        cache=folder / "cache",
        overwrite=True,
    )
    facts = {
        "bytes": path.stat().st_size,
        "cached": made.cached,
        "plugin": made.identity.plugin is not None,
        "tensorrt": made.identity.tensorrt,
        "gpu": str(made.identity.gpu),
    }
    channel.keep("builds", engine.name, value=facts)
    return path


def _case(
    stage: str,
    faces: int,
    context: Context,
    channel: Channel,
    networks: Networks,
    built: Mapping[str, Path],
    clock: Clock,
) -> dict[str, Any]:
    inputs = networks.inputs(stage, faces)
    with exact_products():
        wanted = networks.run(stage, torch.float32)(*inputs.values())
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    made = variants(stage, networks, built, inputs, context)
    for name, (seconds, prepare) in made.items():
        found = channel.attempt(
            f"{faces} faces, {name}",
            seconds,
            functools.partial(_checked, prepare, wanted, name),
        )
        if found is not None:
            calls[name], errors[name] = found
    caches = (WARM, COLD)
    rounds = 3 if context.quick else _ROUNDS
    timed = by_turns(calls, clock, caches, rounds, context.left / (2 * len(FACES)))
    return {
        "case": f"{stage}, {faces} face{'s' if faces > 1 else ''}",
        "faces": faces,
        "variants": {
            name: {cache: times.to_dict() for cache, times in of.items()}
            | {"rms_error": errors[name]}
            for name, of in timed.items()
        },
    }


Prepare = Callable[[], Call]


def variants(
    stage: str,
    networks: Networks,
    built: Mapping[str, Path],
    inputs: Mapping[str, Tensor],
    context: Context,
) -> dict[str, tuple[float, Prepare]]:
    """By name: the limit of its preparation in seconds, and what prepares the call to be timed."""
    found: dict[str, tuple[float, Prepare]] = {
        name: (_CALL_SECONDS, functools.partial(_engine, path, inputs))
        for name, path in built.items()
    }
    for dtype in ("float32", "bfloat16"):
        run = functools.partial(networks.run, stage, getattr(torch, dtype))
        found[f"eager {dtype}"] = (
            _CALL_SECONDS,
            lambda run=run: functools.partial(run(), *inputs.values()),
        )
    if context.device == "cuda" and not context.quick:
        compiled = functools.partial(networks.compiled, stage, torch.bfloat16, inputs)
        found["compile bfloat16"] = (_COMPILE_SECONDS, compiled)
    session = functools.partial(_onnxruntime, stage, networks, inputs, context.work / "engines")
    found["onnxruntime float16"] = (_CALL_SECONDS, session)
    return found


def _engine(path: Path, inputs: Mapping[str, Tensor]) -> Call:
    """Inputs lie in the engine's buffers: nothing is copied."""
    engine = trt_runtime.TensorRTEngine(path)
    buffers = engine.buffers(len(next(iter(inputs.values()))))
    for name, x in inputs.items():
        buffers[name].copy_(x)
    (output,) = engine.outputs
    return lambda: engine(buffers)[output]


def _onnxruntime(
    stage: str, networks: Networks, inputs: Mapping[str, Tensor], folder: Path
) -> Call:
    """Bound to device memory, so that nothing is copied; without CUDA this row is left out."""
    import onnxruntime

    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise RuntimeError("this onnxruntime has no CUDA: install onnxruntime-gpu")
    path = folder / f"{stage}-onnxruntime.onnx"
    lf.export.onnx(networks.bundle, path, stage=stage, dtype="float16", overwrite=True)
    session = onnxruntime.InferenceSession(str(path), providers=[CUDA_PROVIDER])
    binding = session.io_binding()
    (output,) = (entry.name for entry in session.get_outputs())
    held = {name: x.contiguous() for name, x in inputs.items()}
    for name, x in held.items():
        binding.bind_input(name, "cuda", 0, "float32", tuple(x.shape), x.data_ptr())
    binding.bind_output(output, "cuda", 0)

    def call() -> Tensor:
        assert held
        session.run_with_iobinding(binding)
        return torch.from_dlpack(binding.get_outputs()[0].to_dlpack())

    return call


def _checked(prepare: Prepare, wanted: Tensor, name: str) -> tuple[Call, float]:
    call = prepare()
    call()
    error = relative_error(call(), wanted)
    dtype = name.partition(",")[0].split()[-1]
    limit = LIMITS.get(dtype, LIMITS["float16"])
    if not error <= limit:
        raise WrongResult(f"relative RMS error {error:.1e}, at most {limit:.0e} is right")
    return call, error


def relative_error(made: Tensor, wanted: Tensor) -> float:
    """RMS of the difference over the RMS of what is wanted; NaN where something is not finite."""
    difference = made.double() - wanted.double()
    return float(difference.square().mean().sqrt() / wanted.double().square().mean().sqrt())


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Without TF32, which PyTorch's convolutions use."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


encoder = functools.partial(measure, "encoder")
cdfnet = functools.partial(measure, "cdfnet")
generator = functools.partial(measure, "generator")
pipeline = functools.partial(measure, "pipeline")
