"""What a file is: checked, typed, of its opset; and the node of docs/export.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_runs import facts, features, latents, session_of

import lreorg_fast as lf
from lreorg_fast.cdfnet.backends.program import number
from lreorg_fast.errors import ConfigError
from lreorg_fast.export import onnx_graph
from lreorg_fast.export.onnx_cdfnet import OP, encoded
from lreorg_fast.export.onnx_graph import DTYPES, OPSETS, Graph
from lreorg_fast.export.onnx_options import STAGES, OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, stage_model

KEEP = ("gender", "age", "expression", "makeup")
# The networks that verify are float32 only.
FILES = [
    (name, dtype)
    for name, stage in STAGES.items()
    for dtype in (DTYPES if stage.judges is None else DTYPES[:1])
]


def model_of(networks: Networks, **options: Any) -> Any:
    return stage_model(networks, OnnxOptions(**options))


def shape_of(info: Any) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]


@pytest.mark.parametrize(("stage", "dtype"), FILES)
def test_every_stage_passes_the_full_checker(toys: Networks, stage: str, dtype: str) -> None:
    model = model_of(toys, stage=stage, dtype=dtype)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    declared = [shape_of(output) for output in model.graph.output]
    assert [shape_of(output) for output in inferred.graph.output] == declared
    # Inside of the graph every shape but the batch is known, too.
    for info in inferred.graph.value_info:
        assert all(size == "batch" or int(size) > 0 for size in shape_of(info)[1:]), info.name


@pytest.mark.parametrize("batch", [None, 3])
def test_the_batch_is_open_or_fixed(toys: Networks, batch: int | None) -> None:
    model = model_of(toys, stage="pipeline", batch=batch)
    wanted = "batch" if batch is None else batch
    values = [*model.graph.input, *model.graph.output]
    assert [shape_of(value)[0] for value in values] == [wanted] * len(values)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_runs(toys: Networks, opset: int) -> None:
    model = model_of(toys, stage="pipeline", opset=opset)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    size = toys.encoder.config.input_size
    x = np.random.default_rng(1).normal(size=(2, 3, size, size)).astype(np.float32)
    made = session_of(model)(picture=x, replace_identity=features(toys, 2))["rendered"]
    assert made.shape == (2, 3, size, size)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_have_the_dtype(toys: Networks, dtype: str) -> None:
    for stage in ("encoder", "cdfnet", "generator"):
        model = model_of(toys, stage=stage, dtype=dtype)
        sizes: dict[str, int] = {}
        for tensor in model.graph.initializer:
            name = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
            sizes[name] = sizes.get(name, 0) + int(np.prod(tensor.dims))
        assert sizes.pop(dtype) > 0.5 * sum(sizes.values())


def test_dead_nodes_and_their_weights_are_left_out(toys: Networks) -> None:
    graph = Graph(20)
    x = graph.input("x", (graph.batch, 4))
    graph.add("Mul", x, graph.constant(np.ones(4, np.float32), "unused"))
    graph.output(
        "y", graph.add("Add", x, graph.constant(np.ones(4, np.float32), "used")), ("batch", 4)
    )
    model = graph.model("tiny", {})
    assert [node.op_type for node in model.graph.node] == ["Add", "Identity"]
    assert [tensor.name for tensor in model.graph.initializer] == ["used"]


def test_equal_constants_are_held_once() -> None:
    graph = Graph(20)
    zeros = np.zeros(3, np.float32)
    assert graph.constant(zeros) == graph.constant(zeros.copy())
    others = [zeros[:2], zeros.astype(np.float16), zeros + 1, zeros[None]]
    assert len({graph.constant(other) for other in [zeros, *others]}) == 5


def test_a_model_that_is_too_large_says_what_to_do(
    toys: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "_MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match="less than 2 GiB; export its stages one by one"):
        model_of(toys, stage="encoder")


# ---- the node


def test_no_onnx_operator_has_the_name() -> None:
    """TensorRT's parser ignores the domain."""
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert "Conv" in names
    assert OP not in names


@pytest.mark.parametrize("keep_input", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_node_is_that_of_the_page(toys: Networks, dtype: str, keep_input: bool) -> None:
    model = model_of(toys, stage="rendering", form="plugin", dtype=dtype, keep_input=keep_input)
    nodes = [node for node in model.graph.node if node.op_type == OP]
    (node,) = nodes
    assert node.domain == "lreorg"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes["plugin_namespace"] == b"lreorg"
    assert attributes["plugin_version"] == b"1"
    config = toys.folded.config
    assert attributes["clamp"] == pytest.approx(config.clamp)
    assert all(-(2**31) <= i < 2**31 for i in attributes["program"])
    D, n, g = config.dim, config.num_blocks, config.growth
    matrices = {
        "condition": (n, 3, D, D),
        "hidden": (n, 3, 4 * g, D),
        "chain": (n, 3, 4 * g, 4 * g),
        "direct": (n, 3, D, D),
        "output": (n, 3, D, 4 * g),
    }
    vectors = {"hidden_bias": (n, 3, 4 * g), "output_bias": (n, 3, D)}
    order = ("condition", "hidden", "hidden_bias", "chain", "direct", "output", "output_bias")
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    assert node.input[0] == "latent"
    assert (node.input[2] in held) != keep_input
    for given, name in zip(node.input[3:], order, strict=True):
        tensor = held[given]
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        wanted = dtype if name in matrices else "float32"
        assert (tuple(tensor.dims), kind) == ((matrices | vectors)[name], wanted)
    (function,) = model.functions
    assert (function.domain, function.name) == ("lreorg", OP)
    assert len(function.input) == len(node.input)
    assert sorted(function.attribute) == sorted(attributes)


def test_the_chain_is_below_the_diagonal(toys: Networks) -> None:
    chain, g = toys.network.weights.chain, toys.folded.config.growth
    for i in range(4):
        assert not chain[:, :, i * g : (i + 1) * g, i * g :].any()
    assert chain[:, :, g : 2 * g, :g].any()


def test_the_program_can_be_read_back() -> None:
    plan = lf.plan(["identity"], KEEP)
    program = number(plan, {name: i for i, name in enumerate(plan.keywords)})
    data = encoded(program)
    (inputs, values, outputs), rest = data[:3], data[3:]
    assert (inputs, values) == (program.num_inputs, program.num_values)
    assert rest[:outputs] == program.outputs
    count, rest = rest[outputs], rest[outputs + 1 :]
    steps = []
    for _ in range(count):
        direction, lanes = ("disentangle", "fuse")[rest[0]], rest[1]
        steps.append((direction, [tuple(rest[2 + 5 * i : 7 + 5 * i]) for i in range(lanes)]))
        rest = rest[2 + 5 * lanes :]
    assert rest == []
    assert steps == program.steps


def test_a_file_says_what_it_is(toys: Networks) -> None:
    told = facts(model_of(toys, stage="cdfnet", hide=("identity", "age"), keep=("gender",)))
    assert told["stage"] == "cdfnet"
    assert told["bundle"] == "toy"
    assert (told["hide"], told["keep"]) == ('["identity", "age"]', '["gender"]')
    assert latents(toys, 1).shape[1:] == (toys.rows, toys.dim)
