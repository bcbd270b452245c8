"""Running an engine on torch's tensors and streams: no copies, no waiting, CUDA graphs."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lreorg_fast.errors import BackendUnavailable, ConfigError
from lreorg_fast.export import trt_plugin
from lreorg_fast.export.trt import needed_library
from lreorg_fast.export.trt_api import Messages, gpu, io_tensors, made, tensorrt_package
from lreorg_fast.export.trt_identity import Gpu, read_identity

# What TensorRT asks of the address of a tensor.
_ALIGNMENT = 256
_MOST_PREPARED = 16


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of an engine; ``shape`` has -1 for an open number of faces."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def shape_of(self, faces: int) -> tuple[int, ...]:
        return tuple(faces if extent == -1 else extent for extent in self.shape)

    @property
    def open(self) -> bool:
        return -1 in self.shape


class Cuda(Protocol):
    """What running an engine needs of the device: :class:`TorchCuda`, or what tests pretend."""

    device: torch.device

    def stream(self) -> int:
        """The handle of torch's current stream."""

    def capturing(self) -> bool:
        """Whether that stream is being captured by the caller."""

    def capture(self, launch: Callable[[int], None]) -> Callable[[], None]:
        """Record what ``launch(stream)`` queues; the result queues it on the current stream."""


class TorchCuda:
    """A CUDA device through torch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> int:
        return int(torch.cuda.current_stream(self.device).cuda_stream)

    def capturing(self) -> bool:
        return torch.cuda.is_current_stream_capturing()

    def capture(self, launch: Callable[[int], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            launch(self.stream())
        return graph.replay


class TensorRTEngine:
    """An engine that :func:`lreorg_fast.export.tensorrt` built, ready to run.

    Each stream of torch and each number of faces has a context, buffers and a CUDA graph of its
    own, made by its first call (which may wait; later ones never do): calls on several streams run
    side by side. Results are views of buffers that the next call with this number of faces on this
    stream writes again; ``clone()`` what must be kept. Nothing looks at the results: a caller must
    check that they are finite before anything is released.

    Args:
        path: the engine; its ``.json`` must lie beside it. **Loading an engine runs code that is
            in it**: load only what you built.
        device: "cuda", or a certain one.
        graphs: replay CUDA graphs; inputs that are not :meth:`buffers` are then copied into them
            on the device. Without graphs contiguous inputs are read where they are.
        most_prepared: how many pairs of stream and number of faces are kept; the one not used for
            longest is given up first.

    Attributes:
        inputs, outputs: by name, in the engine's order.
        profiles: the numbers of faces that it runs; empty if they are fixed.

    Raises:
        MissingExtra, BackendUnavailable, CheckpointError: TensorRT or the GPU is missing, or the
            engine is another one's, damaged, or needs a plugin library that is not there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        graphs: bool = True,
        most_prepared: int = _MOST_PREPARED,
    ) -> None:
        whole = isinstance(most_prepared, int) and not isinstance(most_prepared, bool)
        if not whole or most_prepared < 1:
            raise ConfigError(f"most_prepared is {most_prepared!r}, but must be a number from 1")
        trt = tensorrt_package()
        on = gpu(device)
        engine = Path(path)
        identity = read_identity(engine)
        identity.check(engine, trt.__version__, Gpu.of(on))
        library = needed_library(trt, identity, engine)
        with torch.cuda.device(on):
            loaded = _Loaded(trt, engine, library)
        self._loaded, self._cuda = loaded, TorchCuda(on)
        self._graphs, self._most = graphs, most_prepared
        self.inputs: dict[str, TensorSpec] = {}
        self.outputs: dict[str, TensorSpec] = {}
        for name, is_input, dtype in io_tensors(trt, loaded.engine):
            spec = TensorSpec(name, tuple(loaded.engine.get_tensor_shape(name)), dtype)
            (self.inputs if is_input else self.outputs)[name] = spec
        fixed = not any(spec.open for spec in self.inputs.values())
        self.profiles = () if fixed else identity.options.profiles
        self._prepared: OrderedDict[tuple[int, int], _Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Queue one call on torch's current stream.

        Args:
            inputs: a tensor for each of :attr:`inputs`, on the engine's device, of its dtype and
                shape; the same number of faces in all of them.

        Returns:
            The outputs by name, in buffers of the engine.

        Raises:
            ConfigError: an input is missing or wrong, or no profile holds so many faces.
            BackendUnavailable: TensorRT refuses the call.
        """
        faces = self._faces(inputs)
        prepared = self._prepare(faces)
        with prepared.lock:
            return prepared.run(inputs)

    def buffers(self, faces: int | None = None) -> dict[str, Tensor]:
        """The inputs' buffers on torch's current stream; what is written there is not copied again.

        Args:
            faces: their number; None where the engine's is fixed.
        """
        if faces is None and self.profiles:
            raise ConfigError("faces is None, but this engine's number of faces is open; give it")
        return dict(self._prepare(1 if faces is None else self._checked_faces(faces)).inputs)

    def _faces(self, inputs: Mapping[str, Tensor]) -> int:
        """How many there are; every input is checked."""
        if set(inputs) != set(self.inputs):
            raise ConfigError(
                f"inputs are {', '.join(inputs) or 'none'}, but must be {', '.join(self.inputs)}"
            )
        found = {inputs[name].shape[:1] for name, spec in self.inputs.items() if spec.open}
        if len(found) > 1:
            raise ConfigError("inputs have different numbers of faces; give as many in each")
        faces = 1
        for extents in found:
            if not extents:
                raise ConfigError("an input has no dimensions; its first is the number of faces")
            faces = self._checked_faces(int(extents[0]))
        for name, spec in self.inputs.items():
            given, expected = inputs[name], spec.shape_of(faces)
            if tuple(given.shape) != expected or given.dtype != spec.dtype:
                raise ConfigError(
                    f"input '{name}' is {tuple(given.shape)} {given.dtype}, but must be "
                    f"{expected} {spec.dtype}"
                )
            if given.device != self._cuda.device:
                raise ConfigError(
                    f"input '{name}' is on {given.device}, but the engine is on "
                    f"{self._cuda.device}; move it with .to('{self._cuda.device}')"
                )
        return faces

    def _checked_faces(self, faces: int) -> int:
        if self.profiles and not any(profile.holds(faces) for profile in self.profiles):
            ranges = ", ".join(f"{p.least} to {p.most}" for p in self.profiles)
            raise ConfigError(
                f"there are {faces} faces, but the engine was built for {ranges}; split the call, "
                "or build it with another profile"
            )
        return faces

    def _prepare(self, faces: int) -> _Prepared:
        key = (self._cuda.stream(), faces)
        with self._lock:
            if key not in self._prepared:
                if self._cuda.capturing():
                    raise ConfigError(
                        "this call is the first of its kind and prepares what it needs, which a "
                        "CUDA graph cannot record; make it once before the capture"
                    )
                while len(self._prepared) >= self._most:
                    self._prepared.popitem(last=False)
                self._prepared[key] = _Prepared(self, faces, self._profile(faces))
            self._prepared.move_to_end(key)
            return self._prepared[key]

    def _profile(self, faces: int) -> int:
        """Of those that hold so many faces the one that was tuned for the nearest number."""
        held = [i for i, profile in enumerate(self.profiles) if profile.holds(faces)]
        return min(held, key=lambda i: abs(self.profiles[i].best - faces), default=0)


class _Loaded:
    """An engine in memory, and what must live as long as it."""

    def __init__(self, trt: Any, path: Path, library: Path | None) -> None:
        self.messages = Messages(trt)
        self.runtime = made("a runtime", lambda: trt.Runtime(self.messages.logger), self.messages)
        if library is not None:
            trt_plugin.load(library, self.runtime.get_plugin_registry())
        plan = path.read_bytes()
        self.engine = made(
            f"an engine of '{path}'",
            lambda: self.runtime.deserialize_cuda_engine(plan),
            self.messages,
        )


class _Prepared:
    """One number of faces on one stream: a context, its buffers and its graph."""

    def __init__(self, owner: TensorRTEngine, faces: int, profile: int) -> None:
        self.lock = threading.Lock()
        self._cuda, self._messages = owner._cuda, owner._loaded.messages
        self._stream = self._cuda.stream()
        self._context = made(
            "a context", owner._loaded.engine.create_execution_context, self._messages
        )
        self._specs = owner.inputs
        self.inputs = self._empty(owner.inputs, faces)
        self.outputs = self._empty(owner.outputs, faces)
        if len(owner.profiles) > 1:
            self._check(
                self._context.set_optimization_profile_async(profile, self._stream), "a profile"
            )
        for name, spec in owner.inputs.items():
            self._check(self._context.set_input_shape(name, spec.shape_of(faces)), "a shape")
        for name, buffer in (*self.inputs.items(), *self.outputs.items()):
            self._bind(name, buffer)
        unknown = self._context.infer_shapes()
        self._check(not unknown, f"the shapes without {', '.join(unknown)}")
        # TensorRT prepares itself in the first call after a change of shapes: only then capture.
        self._launch(self._stream)
        self._replay = self._cuda.capture(self._launch) if owner._graphs else None

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, given in inputs.items():
            buffer = self.inputs[name]
            at_home = given.data_ptr() == buffer.data_ptr()
            if self._replay is None:
                direct = given.is_contiguous() and given.data_ptr() % _ALIGNMENT == 0
                self._bind(name, given if direct else buffer.copy_(given))
            elif not (at_home and given.is_contiguous()):
                buffer.copy_(given)
        if self._replay is None or self._cuda.capturing():
            self._launch(self._cuda.stream())
        else:
            self._replay()
        return dict(self.outputs)

    def _empty(self, specs: Mapping[str, TensorSpec], faces: int) -> dict[str, Tensor]:
        # Zeros: the first call, which prepares, computes with what is there.
        return {
            name: torch.zeros(spec.shape_of(faces), dtype=spec.dtype, device=self._cuda.device)
            for name, spec in specs.items()
        }

    def _bind(self, name: str, tensor: Tensor) -> None:
        self._check(self._context.set_tensor_address(name, tensor.data_ptr()), "an address")

    def _launch(self, stream: int) -> None:
        self._check(self._context.execute_async_v3(stream), "the call")

    def _check(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise BackendUnavailable(
                f"TensorRT refuses {what}{self._messages.reason()}; nothing was computed"
            )
