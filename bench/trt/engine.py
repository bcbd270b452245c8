"""Stage ``engine``: what only a GPU can show of one small engine, each as a step of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lreorg_fast as lf
from bench.gpu.channel import Channel, Context, WrongResult
from bench.gpu.variants import capture
from bench.trt.measure import exact_products, relative_error
from bench.trt.networks import Networks, prepared
from lreorg_fast.errors import BackendUnavailable, ConfigError, LReorgError
from lreorg_fast.export import trt
from lreorg_fast.export.trt_identity import Identity, read_identity, write_engine
from lreorg_fast.export.trt_runtime import TensorRTEngine

STAGE = "cdfnet"
_STEP_SECONDS = 90.0
# float32 weights and sums; what differs is the order of sums, through 14 passes.
_LIMIT = 1e-3
_CALLS = 20


def check(context: Context, channel: Channel, networks: Networks | None = None) -> None:
    """Keep ``passed``: the checks that held; a wrong result fails the whole run.

    Args:
        networks: replace the full-size ones, for tests.
    """
    folder, networks = prepared(context, channel, networks)
    passed: list[str] = []
    for plugin in ("auto", "never"):
        fixture = channel.attempt(
            f"build, plugin {plugin}",
            _STEP_SECONDS,
            functools.partial(Fixture.build, networks, folder, plugin),
        )
        for name, check_one in CHECKS.items() if fixture is not None else ():
            step = f"{name}, plugin {plugin}"
            with channel.step(step, _STEP_SECONDS), torch.inference_mode():
                check_one(fixture)
                passed.append(step)
    channel.keep("passed", value=passed)


@dataclasses.dataclass
class Fixture:
    """An engine, and what it must give."""

    networks: Networks
    folder: Path
    path: Path
    identity: Identity

    @classmethod
    def build(cls, networks: Networks, folder: Path, plugin: str) -> Fixture:
        built = lf.export.tensorrt(
            networks.bundle,
            folder / f"check-{plugin}.engine",
            stage=STAGE,
            dtype="float32",
            plugin=plugin,
            profiles=[(1, 1, 2), (3, 8, 8)],
            refit=True,
            cache=False,
            overwrite=True,
        )
        return cls(networks, folder, built.path, built.identity)

    def wanted(self, inputs: dict[str, Tensor]) -> Tensor:
        with exact_products():
            return self.networks.run(STAGE, torch.float32)(*inputs.values())

    def inputs(self, faces: int) -> dict[str, Tensor]:
        return self.networks.inputs(STAGE, faces)

    def load(self, **settings: Any) -> Callable[[dict[str, Tensor]], Tensor]:
        engine = TensorRTEngine(self.path, **settings)
        (output,) = engine.outputs
        return lambda inputs: engine(inputs)[output]


def _require(made: Tensor, wanted: Tensor, what: str) -> None:
    error = relative_error(made, wanted)
    if not error <= _LIMIT:
        raise WrongResult(f"{what}: relative RMS error {error:.1e}, at most {_LIMIT:.0e} is right")


def _results(fixture: Fixture) -> None:
    """Every number of faces of both profiles, with and without graphs."""
    for graphs in (True, False):
        run = fixture.load(graphs=graphs)
        for faces in (1, 2, 3, 8, 1):
            inputs = fixture.inputs(faces)
            _require(run(inputs), fixture.wanted(inputs), f"{faces} faces, graphs {graphs}")


def _streams(fixture: Fixture) -> None:
    """Calls on two streams at the same time give what they give alone."""
    run = fixture.load()
    given = [fixture.inputs(1), {name: x.flip(-1) for name, x in fixture.inputs(1).items()}]
    wanted = [fixture.wanted(inputs) for inputs in given]
    streams = [torch.cuda.Stream() for _ in given]
    torch.cuda.synchronize()
    made: list[list[Tensor]] = [[], []]
    for _ in range(_CALLS):
        for stream, inputs, results in zip(streams, given, made, strict=True):
            with torch.cuda.stream(stream):
                results.append(run(inputs).clone())
    torch.cuda.synchronize()
    for results, right in zip(made, wanted, strict=True):
        for result in results:
            _require(result, right, "two streams")
            if not torch.equal(result, results[0]):
                raise WrongResult("two streams: results of one stream differ")


def _captured(fixture: Fixture) -> None:
    """Inside a CUDA graph of the caller's, with new inputs in the same memory."""
    run = fixture.load()
    inputs = fixture.inputs(1)
    replay = capture(lambda: run(inputs))
    for name, x in inputs.items():
        inputs[name].copy_(x.flip(-1))
    _require(replay(), fixture.wanted(inputs), "a captured call")


def _not_finite(fixture: Fixture) -> None:
    """What is not a number does not become one."""
    run = fixture.load()
    inputs = fixture.inputs(2)
    next(iter(inputs.values()))[1, 0, 0] = float("nan")
    made = run(inputs)
    if torch.isfinite(made[1]).all():
        raise WrongResult("a latent that is not finite gives a finite result")


def _refit(fixture: Fixture) -> None:
    """Other weights, without building again, give the other network's results."""
    other = fixture.networks.changed(fixture.folder / "other")
    onnx = fixture.folder / "other.onnx"
    form = "standard" if fixture.identity.options.plugin == "never" else "plugin"
    settings: dict[str, Any] = {"stage": STAGE, "dtype": "float32", "form": form}
    lf.export.onnx(other.bundle, onnx, overwrite=True, **settings)
    built = trt.refit(fixture.path, onnx, fixture.folder / "refitted.engine", overwrite=True)
    refitted = dataclasses.replace(fixture, networks=other, path=built.path)
    inputs = fixture.inputs(1)
    made, wanted = refitted.load()(inputs), refitted.wanted(inputs)
    _require(made, wanted, "a refitted engine")
    if relative_error(fixture.wanted(inputs), wanted) <= 10 * _LIMIT:
        raise WrongResult("the other weights do not differ enough to show anything")


def _cache(fixture: Fixture) -> None:
    """The second build is the first one's file."""
    settings: dict[str, Any] = {
        "stage": STAGE,
        "dtype": "float32",
        "cache": fixture.folder / "check-cache",
        "overwrite": True,
    }
    first = lf.export.tensorrt(fixture.networks.bundle, fixture.folder / "a.engine", **settings)
    second = lf.export.tensorrt(fixture.networks.bundle, fixture.folder / "b.engine", **settings)
    if not second.cached or first.path.read_bytes() != second.path.read_bytes():
        raise WrongResult("the cache did not give the engine that was built")


def _refusals(fixture: Fixture) -> None:
    """Another version, another GPU, too many faces: sentences instead of TensorRT's errors."""
    identity = read_identity(fixture.path)
    plan = fixture.path.read_bytes()
    elsewhere = fixture.folder / "elsewhere.engine"
    gpu = dataclasses.replace(identity.gpu, name="another")
    for wrong in (
        dataclasses.replace(identity, tensorrt="10.0"),
        dataclasses.replace(identity, gpu=gpu),
    ):
        write_engine(elsewhere, plan, wrong, overwrite=True)
        _must_refuse(lambda: TensorRTEngine(elsewhere), BackendUnavailable)
    run = fixture.load()
    _must_refuse(lambda: run(fixture.inputs(9)), ConfigError)


def _must_refuse(call: Callable[[], Any], error: type[LReorgError]) -> None:
    with contextlib.suppress(error):
        call()
        raise WrongResult("what cannot run was not refused")


CHECKS: dict[str, Callable[[Fixture], None]] = {
    "results": _results,
    "two streams": _streams,
    "a caller's graph": _captured,
    "values that are not finite": _not_finite,
    "refit": _refit,
    "cache": _cache,
    "refusals": _refusals,
}
