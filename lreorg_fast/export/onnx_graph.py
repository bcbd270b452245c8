"""A small builder of ONNX graphs and function bodies: names, constants, dead nodes.

The networks of this package are written out node by node instead of being traced: the same file
comes out whatever the version of torch, in a fraction of a second, with static shapes but for the
batch, and every value's type is chosen (what is summed in float32 stays so in a float16 file).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, MissingExtra

DTYPES = ("float32", "float16", "bfloat16")
# Below 18 reductions take their axes elsewhere; 24 is the newest that was tried (onnxruntime 1.32).
OPSETS = range(18, 25)
DEFAULT_OPSET = 20
# The first opset whose convolutions take bfloat16.
_BFLOAT16_OPSET = 22
DOMAIN = "lreorg"

Array = NDArray[Any]
# A dimension that is only known when the graph runs has a name.
Shape = Sequence["int | str"]


def onnx_package() -> Any:
    """The ``onnx`` package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("ONNX files need onnx: pip install 'lreorg_fast[export]'") from error
    return onnx


def checked_opset(dtype: str, opset: int | None) -> int:
    """The opset of a file with this dtype; None is 20, or what the dtype needs.

    Raises:
        ConfigError: no such dtype or opset, or one that does not have the dtype.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}, but must be one of {', '.join(DTYPES)}")
    least = _BFLOAT16_OPSET if dtype == "bfloat16" else OPSETS[0]
    if opset is None:
        return max(least, DEFAULT_OPSET)
    if isinstance(opset, bool) or not isinstance(opset, int) or opset not in OPSETS:
        raise ConfigError(
            f"opset is {opset!r}, but must be a number from {OPSETS[0]} to {OPSETS[-1]}; leave it "
            f"out for {DEFAULT_OPSET}"
        )
    if opset < least:
        raise ConfigError(
            f"opset is {opset}, but dtype '{dtype}' needs {least} or later, where convolutions "
            "take it; raise opset or choose float16"
        )
    return opset


def numpy_dtype(dtype: str) -> Any:
    """The numpy type of a name of :data:`DTYPES`."""
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


class Nodes:
    """Nodes of a function body: constants are nodes, values come from named inputs."""

    def __init__(self, opset: int) -> None:
        self._onnx = onnx_package()
        self.opset = opset
        self._nodes: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._scopes: list[str] = []
        self._count = 0

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of nodes made inside begin with ``name/``."""
        self._scopes.append(name)
        yield
        self._scopes.pop()

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output; gives the output's name."""
        (output,) = self.add_many(op, inputs, 1, **attributes)
        return output

    def add_many(
        self, op: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """One node with several outputs."""
        name = self._name(op)
        made = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        node = self._onnx.helper.make_node(
            op, list(inputs), made, name=name, domain=domain, **attributes
        )
        self._nodes.append(node)
        return made

    def constant(self, array: Array, name: str | None = None) -> str:
        """A constant value; equal ones without a name are made once."""
        array = np.asarray(array, order="C")
        raw: Any = array.reshape(-1).view(np.uint8)  # bfloat16 has no buffer of its own
        key = (str(array.dtype), array.shape, hashlib.sha256(raw).digest())
        if name is None and key in self._constants:
            return self._constants[key]
        made = self._hold(array, name or self._name("constant"))
        if name is None:
            self._constants[key] = made
        return made

    def numbers(self, *values: int) -> str:
        """An int64 vector, such as axes or a shape."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def cast(self, value: str, dtype: str) -> str:
        return self.add(
            "Cast", value, to=self._onnx.helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype))
        )

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        return self.add_many("Split", (value, self.numbers(*sizes)), len(sizes), axis=axis)

    def live(self, outputs: Sequence[str]) -> list[Any]:
        """The nodes that the outputs depend on, in order."""
        needed, kept = set(outputs), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        return kept[::-1]

    def function(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Sequence[str]
    ) -> Any:
        """All of it as a local function of :data:`DOMAIN`."""
        helper = self._onnx.helper
        return helper.make_function(
            DOMAIN, name, list(inputs), list(outputs), self.live(outputs),
            [helper.make_opsetid("", self.opset)], attributes=list(attributes),
        )  # fmt: skip

    def _hold(self, array: Array, name: str) -> str:
        tensor = self._onnx.numpy_helper.from_array(array, name)
        self._nodes.append(self._onnx.helper.make_node("Constant", [], [name], value=tensor))
        return name

    def _name(self, op: str) -> str:
        self._count += 1
        return "/".join([*self._scopes, f"{op}_{self._count}"])


class Graph(Nodes):
    """A whole model: constants are initializers, inputs and outputs have types and shapes."""

    def __init__(self, opset: int, batch: int | None = None) -> None:
        super().__init__(opset)
        self.batch: int | str = "batch" if batch is None else batch
        self._initializers: dict[str, Any] = {}
        self._bytes: dict[str, int] = {}
        self._inputs: list[Any] = []
        self._outputs: list[tuple[str, Any]] = []
        self._functions: list[Any] = []

    def input(self, name: str, shape: Shape, dtype: Any = np.float32, doc: str = "") -> str:
        self._inputs.append(self._info(name, shape, dtype, doc))
        return name

    def output(self, name: str, value: str, shape: Shape, doc: str = "") -> None:
        """``value`` leaves as ``name``, float32."""
        self._nodes.append(
            self._onnx.helper.make_node("Identity", [value], [name], name=f"output/{name}")
        )
        self._outputs.append((name, self._info(name, shape, np.float32, doc)))

    def include(self, function: Any) -> None:
        """A local function that nodes of this graph call."""
        self._functions.append(function)

    def model(self, name: str, metadata: Mapping[str, str]) -> Any:
        """The model, checked: full checker, strict shape inference. The graph is used up by it.

        Raises:
            ConfigError: it would be larger than a file of this format can be.
        """
        onnx = self._onnx
        nodes = self.live([name for name, _ in self._outputs])
        used = {value for node in nodes for value in node.input}
        size = sum(self._bytes[key] for key in self._initializers if key in used)
        if size >= _MOST_BYTES:
            raise ConfigError(
                f"the weights of {name} are {size / 2**30:.1f} GiB, but an ONNX file holds less "
                "than 2 GiB; export its stages one by one, or in float16"
            )
        graph = onnx.helper.make_graph(
            nodes, name, self._inputs, [info for _, info in self._outputs]
        )
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        if self._functions:
            opsets.append(onnx.helper.make_opsetid(DOMAIN, 1))
        model = onnx.helper.make_model(
            graph,
            opset_imports=opsets,
            functions=self._functions,
            producer_name="lreorg_fast",
            ir_version=onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True),
        )
        onnx.helper.set_model_props(model, dict(metadata))
        for key in list(self._initializers):
            tensor = self._initializers.pop(key)  # one copy of all weights at a time
            if key in used:
                model.graph.initializer.append(tensor)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _hold(self, array: Array, name: str) -> str:
        self._initializers[name] = self._onnx.numpy_helper.from_array(array, name)
        self._bytes[name] = array.nbytes
        return name

    def _info(self, name: str, shape: Shape, dtype: Any, doc: str) -> Any:
        helper = self._onnx.helper
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape), doc
        )


_MOST_BYTES = 2**31 - 2**24  # protobuf's limit, with room for nodes and names
