"""CDFNet's passes as ONNX nodes, and the one node that stands for a whole reorganization.

The node and its inputs are described in docs/export.md; a TensorRT plugin follows it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.cdfnet.backends.program import Lane, NumberedPlan
from lreorg_fast.cdfnet.config import LEAKY_SLOPE
from lreorg_fast.cdfnet.coupling import HIDDEN_LAYERS, Weights
from lreorg_fast.export.onnx_graph import DOMAIN, Graph, Nodes, numpy_dtype

OP = "LreorgReorganize"
PLUGIN_NAMESPACE, PLUGIN_VERSION = DOMAIN, "1"
_ATTRIBUTES = ("plugin_namespace", "plugin_version", "clamp", "program")
_WEIGHTS = ("condition", "hidden", "hidden_bias", "chain", "direct", "output", "output_bias")
_ADD, _SCALE, _SHIFT = range(3)

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Network:
    """What the emitters need of a network: sizes and folded weights, float32."""

    clamp: float
    weights: Weights

    @property
    def dim(self) -> int:
        return int(self.weights.condition.shape[-1])

    @property
    def blocks(self) -> int:
        return len(self.weights.condition)

    @property
    def growth(self) -> int:
        return int(self.weights.hidden.shape[2]) // HIDDEN_LAYERS


@dataclass(frozen=True)
class Subnet:
    """Values of a dense subnet, matrices transposed: (inputs, outputs).

    ``wide`` is (D, 4g + D): the hidden layers' parts, then the result's; ``chain`` has (i g, g).
    """

    wide: str
    bias: str
    chain: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Block:
    """Values of a block's weights; those of scale are halved, as exp(c tanh(x / 2)) reads them."""

    condition_add: str  # (D, D)
    condition_pair: str  # (D, 2 D): scale, shift
    dense: tuple[Subnet, Subnet, Subnet]


class Passes:
    """Writes the passes of a program into nodes; streams are float32 with each product type.

    Args:
        nodes: where to.
        sizes: of the network.
        blocks: its weights, as values of ``nodes``.
        constants: c(k), (K, n, 3, D) float32, a value of ``nodes``.
        products: what products read and give: float32, or 16 bits.
    """

    def __init__(
        self, nodes: Nodes, sizes: Network, blocks: Sequence[Block], constants: str, products: str
    ) -> None:
        self._nodes = nodes
        self._sizes = sizes
        self._blocks = blocks
        self._products = products
        halved = nodes.constant(np.array([1, 0.5, 1], np.float32)[:, None])
        self._constants = nodes.add("Mul", constants, halved)
        self._tables: dict[tuple[int, ...], list[str]] = {}

    def run(self, program: NumberedPlan, inputs: Sequence[str]) -> list[str]:
        """The program's outputs; inputs are all (N, T, D)."""
        values: dict[int, str] = dict(enumerate(inputs))
        for number, (direction, lanes) in enumerate(program.steps):
            with self._nodes.scope(f"step{number}_{direction}"):
                second = self._joined([values[lane[2]] for lane in lanes])
                if direction == "disentangle":
                    streams = self._disentangle(second, self._table(lanes))
                else:
                    first = self._joined([values[lane[1]] for lane in lanes])
                    streams = self._fuse(first, second, self._table(lanes))
                for stream, result in enumerate(streams):
                    for row, lane in zip(self._parted(result, len(lanes)), lanes, strict=True):
                        values[lane[3 + stream]] = row
        return [values[i] for i in program.outputs]

    def _disentangle(self, h2: str, table: Sequence[str]) -> tuple[str, str]:
        add = self._nodes.add
        h1: str | None = None  # stream 1 starts at zero
        for block, c_add, c_pair in self._ordered(table):
            moved = self._condition_add(block, h2, c_add)
            h1 = moved if h1 is None else add("Add", h1, moved)
            h2 = self._scaled(h2, *self._condition_pair(block, h1, c_pair))
            h1 = add("Add", h1, self._dense(block.dense[_ADD], h2))
            h2 = self._scaled(
                h2, self._dense(block.dense[_SCALE], h1), self._dense(block.dense[_SHIFT], h1)
            )
        assert h1 is not None
        return h1, h2

    def _fuse(self, g1: str, g2: str, table: Sequence[str]) -> tuple[str, str]:
        add = self._nodes.add
        for block, c_add, c_pair in reversed(list(self._ordered(table))):
            g2 = self._unscaled(
                g2, self._dense(block.dense[_SCALE], g1), self._dense(block.dense[_SHIFT], g1)
            )
            g1 = add("Sub", g1, self._dense(block.dense[_ADD], g2))
            g2 = self._unscaled(g2, *self._condition_pair(block, g1, c_pair))
            g1 = add("Sub", g1, self._condition_add(block, g2, c_add))
        return g1, g2

    def _ordered(self, table: Sequence[str]) -> list[tuple[Block, str, str]]:
        return list(zip(self._blocks, table[::2], table[1::2], strict=True))

    # ---- subnets

    def _condition_add(self, block: Block, x: str, constant: str) -> str:
        return self._nodes.add(
            "Add", self._wide(self._product(self._narrow(x), block.condition_add)), constant
        )

    def _condition_pair(self, block: Block, x: str, constant: str) -> tuple[str, str]:
        product = self._wide(self._product(self._narrow(x), block.condition_pair))
        made = self._nodes.add("Add", product, constant)
        scale, shift = self._nodes.split(made, [self._sizes.dim] * 2, axis=-1)
        return scale, shift

    def _dense(self, subnet: Subnet, x: str) -> str:
        add, growth = self._nodes.add, self._sizes.growth
        made = add("Add", self._product(self._narrow(x), subnet.wide), subnet.bias)
        *parts, direct = self._nodes.split(
            made, [growth] * HIDDEN_LAYERS + [self._sizes.dim], axis=-1
        )
        hidden = add("LeakyRelu", parts[0], alpha=LEAKY_SLOPE)
        for part, matrix in zip(parts[1:], subnet.chain, strict=True):
            layer = add(
                "LeakyRelu", add("Add", part, self._product(hidden, matrix)), alpha=LEAKY_SLOPE
            )
            hidden = add("Concat", hidden, layer, axis=-1)
        return self._wide(add("Add", direct, self._product(hidden, subnet.output)))

    def _scaled(self, h: str, scale: str, shift: str) -> str:
        add = self._nodes.add
        return add("Add", add("Mul", h, self._factor(scale, self._sizes.clamp)), shift)

    def _unscaled(self, g: str, scale: str, shift: str) -> str:
        add = self._nodes.add
        return add("Mul", add("Sub", g, shift), self._factor(scale, -self._sizes.clamp))

    def _factor(self, half: str, clamp: float) -> str:
        add = self._nodes.add
        return add("Exp", add("Mul", add("Tanh", half), self._nodes.scalar(clamp)))

    def _product(self, x: str, matrix: str) -> str:
        return self._nodes.add("MatMul", x, matrix)

    def _narrow(self, x: str) -> str:
        return x if self._products == "float32" else self._nodes.cast(x, self._products)

    def _wide(self, x: str) -> str:
        return x if self._products == "float32" else self._nodes.cast(x, "float32")

    # ---- lanes: passes that run as one batch have an axis in front

    def _table(self, lanes: Sequence[Lane]) -> list[str]:
        """By block the constants of add (D,) and of scale and shift (2 D,); several lanes have an
        axis each, (L, 1, 1, ...)."""
        keywords = tuple(lane[0] for lane in lanes)
        if keywords not in self._tables:
            nodes, dim, blocks = self._nodes, self._sizes.dim, self._sizes.blocks
            rows = nodes.add("Gather", self._constants, nodes.numbers(*keywords), axis=0)
            shape = (-1,) if len(lanes) == 1 else (len(lanes), 1, 1, blocks * 3 * dim)
            flat = nodes.add("Reshape", rows, nodes.numbers(*shape))
            self._tables[keywords] = nodes.split(flat, [dim, 2 * dim] * blocks, axis=-1)
        return self._tables[keywords]

    def _joined(self, values: Sequence[str]) -> str:
        if len(values) == 1:
            return values[0]
        nodes = self._nodes
        rows = [nodes.add("Unsqueeze", value, nodes.numbers(0)) for value in values]
        # Equal ones stay one until their constants tell them apart: their first product is shared.
        return nodes.add("Concat", *rows, axis=0) if len(set(values)) > 1 else rows[0]

    def _parted(self, value: str, lanes: int) -> list[str]:
        if lanes == 1:
            return [value]
        nodes = self._nodes
        return [
            nodes.add("Squeeze", part, nodes.numbers(0))
            for part in nodes.split(value, [1] * lanes, 0)
        ]


def _stored_blocks(graph: Graph, network: Network, dtype: str, products: str) -> list[Block]:
    """Weights as initializers of ``dtype``, laid out as the products read them."""
    arrays = {name: getattr(network.weights, name).double().numpy() for name in _WEIGHTS}

    def hold(name: str, array: Array) -> str:
        held = graph.constant(array.astype(numpy_dtype(dtype)), f"cdfnet/{name}")
        return held if dtype == products else graph.cast(held, products)

    def subnet(j: int, role: int) -> Subnet:
        at, half = (j, role), 0.5 if role == _SCALE else 1.0
        name, growth = f"{j}.dense.{role}", network.growth
        chain = arrays["chain"][at]
        return Subnet(
            wide=hold(
                f"{name}.wide",
                np.concatenate([arrays["hidden"][at], half * arrays["direct"][at]]).T,
            ),
            bias=hold(
                f"{name}.bias",
                np.concatenate([arrays["hidden_bias"][at], half * arrays["output_bias"][at]]),
            ),
            chain=tuple(
                hold(f"{name}.chain.{i}", chain[i * growth : (i + 1) * growth, : i * growth].T)
                for i in range(1, HIDDEN_LAYERS)
            ),
            output=hold(f"{name}.output", half * arrays["output"][at].T),
        )

    blocks = []
    for j in range(network.blocks):
        add, scale, shift = arrays["condition"][j]
        blocks.append(
            Block(
                hold(f"{j}.condition.add", add.T),
                hold(f"{j}.condition.pair", np.concatenate([0.5 * scale, shift]).T),
                (subnet(j, _ADD), subnet(j, _SCALE), subnet(j, _SHIFT)),
            )
        )
    return blocks


def _sliced_blocks(nodes: Nodes, sizes: Network, stacked: dict[str, str]) -> list[Block]:
    """The same from the node's stacked inputs, float32, inside of the local function."""
    growth, half = sizes.growth, nodes.scalar(0.5)
    wide = {name: nodes.cast(value, "float32") for name, value in stacked.items()}
    for name in ("condition", "hidden", "chain", "direct", "output"):
        wide[name] = nodes.add("Transpose", wide[name], perm=[0, 1, 3, 2])

    def at(name: str, j: int, role: int, halves: bool = True) -> str:
        block = nodes.add("Gather", wide[name], nodes.constant(np.array(j)), axis=0)
        value = nodes.add("Gather", block, nodes.constant(np.array(role)), axis=0)
        return nodes.add("Mul", value, half) if halves and role == _SCALE else value

    def corner(chain: str, i: int) -> str:
        starts, ends = nodes.numbers(0, i * growth), nodes.numbers(i * growth, (i + 1) * growth)
        return nodes.add("Slice", chain, starts, ends, nodes.numbers(0, 1))

    def subnet(j: int, role: int) -> Subnet:
        chain = at("chain", j, role, halves=False)
        hidden = at("hidden", j, role, halves=False), at("hidden_bias", j, role, halves=False)
        return Subnet(
            wide=nodes.add("Concat", hidden[0], at("direct", j, role), axis=1),
            bias=nodes.add("Concat", hidden[1], at("output_bias", j, role), axis=0),
            chain=tuple(corner(chain, i) for i in range(1, HIDDEN_LAYERS)),
            output=at("output", j, role),
        )

    return [
        Block(
            at("condition", j, _ADD),
            nodes.add("Concat", at("condition", j, _SCALE), at("condition", j, _SHIFT), axis=1),
            (subnet(j, _ADD), subnet(j, _SCALE), subnet(j, _SHIFT)),
        )
        for j in range(sizes.blocks)
    ]


@dataclass(frozen=True)
class Call:
    """A program to be put into a graph.

    Attributes:
        network: whose passes it consists of.
        program: which passes.
        inputs: values (N, T, D) float32, one for each input of the program.
        constants: value (K, n, 3, D) float32: c(k) of the program's keywords.
        dtype: how matrices are stored.
    """

    network: Network
    program: NumberedPlan
    inputs: Sequence[str]
    constants: str
    dtype: str


def _standard(graph: Graph, call: Call) -> list[str]:
    """As ordinary nodes; products read copies of the streams rounded to the matrices' type."""
    return _ordinary(graph, call, call.dtype)


def exact(graph: Graph, call: Call) -> list[str]:
    """As ordinary nodes; products read and give float32 however matrices are stored."""
    return _ordinary(graph, call, "float32")


def _ordinary(graph: Graph, call: Call, products: str) -> list[str]:
    with graph.scope("cdfnet"):
        blocks = _stored_blocks(graph, call.network, call.dtype, products)
        passes = Passes(graph, call.network, blocks, call.constants, products)
        return passes.run(call.program, call.inputs)


def _plugin(graph: Graph, call: Call) -> list[str]:
    """As one node with its local function, which computes as :func:`exact` does."""
    names = [f"value_{i}" for i in range(len(call.inputs))]
    body = Nodes(graph.opset)
    blocks = _sliced_blocks(body, call.network, {name: name for name in _WEIGHTS})
    outputs = Passes(body, call.network, blocks, "constants", "float32").run(call.program, names)
    graph.include(body.function(OP, [*names, "constants", *_WEIGHTS], outputs, _ATTRIBUTES))
    weights = []
    for name in _WEIGHTS:
        dtype = call.dtype if name in Weights.MATRICES else "float32"
        array = getattr(call.network.weights, name).numpy().astype(numpy_dtype(dtype))
        weights.append(graph.constant(array, f"cdfnet/{name}"))
    return graph.add_many(
        OP,
        [*call.inputs, call.constants, *weights],
        len(outputs),
        domain=DOMAIN,
        plugin_namespace=PLUGIN_NAMESPACE,
        plugin_version=PLUGIN_VERSION,
        clamp=call.network.clamp,
        program=encoded(call.program),
    )


def encoded(program: NumberedPlan) -> list[int]:
    """A program as the node's attribute, see docs/export.md."""
    steps = [
        (direction == "fuse", len(lanes), *itertools.chain.from_iterable(lanes))
        for direction, lanes in program.steps
    ]
    head = (program.num_inputs, program.num_values, len(program.outputs), *program.outputs)
    return [int(i) for i in (*head, len(steps), *itertools.chain.from_iterable(steps))]


FORMS: dict[str, Callable[[Graph, Call], list[str]]] = {"standard": _standard, "plugin": _plugin}
