"""Every variant of the kernels that runs here, with every type of weights and of activations."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lreorg_fast as lf
from lreorg_fast import _native
from lreorg_fast.cdfnet.backends import native_program
from lreorg_fast.cdfnet.folding import FoldedCDFNet, fold
from lreorg_fast.cdfnet.schedule import Plan, single
from tolerances import tolerance

Rows = NDArray[np.float32]

KERNELS = _native.build_config()["cpu_kernels"]
DTYPES = ("float32", "bfloat16", "int8")
EXACT = pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
every_kernel = pytest.mark.parametrize("kernels", KERNELS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
KEYWORDS = 3


class Network:
    """Packed weights and keyword constants; executors for any variant."""

    def __init__(self, weights: Any, constants: Rows) -> None:
        self._weights, self._constants = weights, constants

    def executor(self, kernels: str, exact: bool) -> Any:
        return _native.Executor(self._weights, self._constants, kernels=kernels, exact=exact)


@functools.cache
def random_network(dim: int, growth: int, blocks: int, dtype: Any) -> Network:
    """Any size, dense in every matrix, with subnets whose values are about as large as streams."""
    config = lf.CDFNetConfig(dim=dim, cond_dim=1, num_blocks=blocks, growth=growth, clamp=1.0)
    shapes = {name: array.shape for name, array in fold(lf.CDFNet(config)).tensors().items()}
    generator = np.random.default_rng([dim, growth, blocks])
    tensors = {
        name: generator.standard_normal(shape) * 0.5 / np.sqrt(shape[-1])
        for name, shape in shapes.items()
    }
    weights = _native.PackedWeights.pack(**config.to_dict(), dtype=dtype, tensors=tensors)
    constants = generator.standard_normal((KEYWORDS, blocks, 3, dim)) * 0.3
    return Network(weights, np.float32(constants))


@functools.cache
def random_rows(count: int, tokens: int, dim: int) -> list[Rows]:
    generator = np.random.default_rng([count, tokens, dim])
    return [np.float32(generator.standard_normal((tokens, dim))) for _ in range(count)]


@functools.cache
def recurrence(hide: int, keep: int) -> tuple[Any, int]:
    """A reorganization and the number of its inputs."""
    names = [str(i) for i in range(hide + keep)]
    plan = lf.plan(hide=names[:hide], keep=names[hide:])
    return native_program(plan, {name: int(name) % KEYWORDS for name in names}), 1 + hide


class Trained:
    """The base golden's network with one type of weights."""

    def __init__(self, case: Any, folded: FoldedCDFNet, dtype: Any) -> None:
        self.case, self.dtype = case, dtype
        tables = [folded.keywords.table(k.numpy()) for k in case.keywords.values()]
        weights = _native.PackedWeights.pack(
            **case.net.config.to_dict(), dtype=dtype, tensors=folded.tensors()
        )
        self._network = Network(weights, np.float32(tables))
        self.executor = self._network.executor
        self.generic = self.reorganize(self.executor("generic", exact=True))

    def run(self, executor: Any, plan: Plan, *inputs: Any) -> list[NDArray[Any]]:
        program = native_program(plan, {name: i for i, name in enumerate(self.case.keywords)})
        results: list[NDArray[Any]] = executor.run(program, [np.float32(x) for x in inputs])
        return results

    def reorganize(self, executor: Any) -> NDArray[Any]:
        plan = lf.plan(hide=[self.case.hidden], keep=self.case.kept)
        return self.run(executor, plan, self.case.latent, self.case.replacement)[0]


@pytest.fixture(scope="module")
def folded(base: Any) -> FoldedCDFNet:
    return fold(base.net)


@pytest.fixture(scope="module", params=DTYPES)
def trained(request: pytest.FixtureRequest, base: Any, folded: FoldedCDFNet) -> Trained:
    return Trained(base, folded, request.param)


@pytest.fixture(scope="module")
def plain_error(base: Any) -> float:
    """RMS error of the base golden in plain bfloat16 PyTorch."""
    case, half = base, torch.bfloat16
    made = (
        copy.deepcopy(case.net)
        .to(half)
        .reorganize(
            case.latent.to(half),
            {name: k.to(half) for name, k in case.keywords.items()},
            {case.hidden: case.replacement.to(half)},
            case.kept,
        )
    )
    return rms(made.double().numpy() - case.expected["reorganized"].numpy())


def rms(x: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def activations(executor: Any) -> str:
    return "exact" if executor.activations == "float32" else "rounded"


@every_kernel
@EXACT
def test_follows_the_golden(
    trained: Trained, plain_error: float, kernels: str, exact: bool
) -> None:
    executor = trained.executor(kernels, exact)
    made = trained.reorganize(executor)
    error = made - trained.case.expected["reorganized"].numpy()
    if trained.dtype == "float32":
        assert abs(error).max() < tolerance("cdfnet engine", "float32")
    else:
        name = f"cdfnet {activations(executor)} activations ratio to plain bfloat16 PyTorch"
        assert rms(error) < tolerance(name, trained.dtype) * plain_error
    if exact:
        assert abs(made - trained.generic).max() < tolerance("cdfnet engine", "float32")


@every_kernel
@EXACT
def test_fuse_inverts_disentangle(trained: Trained, kernels: str, exact: bool) -> None:
    executor, hidden = trained.executor(kernels, exact), trained.case.hidden
    latent = np.float32(trained.case.latent)
    halves = trained.run(executor, single("disentangle", hidden), latent)
    loss, back = trained.run(executor, single("fuse", hidden), *halves)
    name = f"cdfnet {activations(executor)} activations round trip"
    for difference in (loss, back - latent):
        assert abs(difference).max() < tolerance(name, trained.dtype)
        if activations(executor) == "rounded":
            assert rms(difference) < tolerance(f"{name} rms", trained.dtype)


@given(
    kernels=st.sampled_from(KERNELS),
    dtype=st.sampled_from(DTYPES),
    exact=st.booleans(),
    dim=st.integers(1, 150),
    growth=st.integers(1, 40),
    blocks=st.integers(1, 2),
    tokens=st.integers(0, 200),
    threads=st.integers(2, 5),
    hide=st.integers(0, 2),
    keep=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=100)
def test_a_result_depends_on_its_row_alone(
    kernels: str,
    dtype: str,
    exact: bool,
    dim: int,
    growth: int,
    blocks: int,
    tokens: int,
    threads: int,
    hide: int,
    keep: int,
    data: st.DataObject,
) -> None:
    """Not on the number of threads, nor on the other rows, nor on their order; bit for bit."""
    executor = random_network(dim, growth, blocks, dtype).executor(kernels, exact)
    program, count = recurrence(hide, keep)
    inputs = random_rows(count, tokens, dim)
    (expected,) = executor.run(program, inputs)
    assert np.isfinite(expected).all()
    (made,) = executor.run(program, inputs, threads)
    np.testing.assert_array_equal(made, expected)
    if tokens > 0:
        rows = data.draw(st.lists(st.integers(0, tokens - 1), min_size=1, max_size=20))
        (made,) = executor.run(program, [x[rows] for x in inputs], threads)
        np.testing.assert_array_equal(made, expected[rows])


# Around the executor's chunks (64 tokens) and groups of threads (48), the kernels' blocks of rows
# (2, 6, 14, 16, 24, 28, 32) and the paddings of packing.h (16 outputs, 32 inputs).
@every_kernel
@every_dtype
@pytest.mark.parametrize(("dim", "growth"), [(70, 20), (96, 8), (1, 1)])
def test_edges_of_blocks_and_chunks(kernels: str, dtype: str, dim: int, growth: int) -> None:
    executor = random_network(dim, growth, 2, dtype).executor(kernels, exact=False)
    program, count = recurrence(1, 0)
    inputs = random_rows(count, 193, dim)
    (expected,) = executor.run(program, inputs)
    for i in (0, 47, 48, 63, 64, 65, 95, 96, 128, 192):
        (alone,) = executor.run(program, [x[i : i + 1] for x in inputs])
        np.testing.assert_array_equal(alone[0], expected[i])
    for tokens in (1, 2, 6, 7, 14, 15, 16, 17, 24, 25, 28, 29, 32, 33, 47, 48, 49, 63, 64, 65):
        (made,) = executor.run(program, [x[:tokens] for x in inputs], 3)
        np.testing.assert_array_equal(made, expected[:tokens])
    for tokens in (95, 96, 97, 128, 129, 192):
        for threads in (2, 3, 4, 7):
            (made,) = executor.run(program, [x[:tokens] for x in inputs], threads)
            np.testing.assert_array_equal(made, expected[:tokens])


@every_kernel
@every_dtype
@EXACT
@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_what_is_not_finite_stays_in_its_row(
    kernels: str, dtype: str, exact: bool, bad: float
) -> None:
    executor = random_network(70, 20, 2, dtype).executor(kernels, exact)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    for plan in (single("disentangle", "0"), single("fuse", "0")):
        program = native_program(plan, {"0": 0})
        inputs = random_rows(len(plan.inputs), 9, 70)
        expected = executor.run(program, inputs)
        damaged = [x.copy() for x in inputs]
        damaged[-1][4, 37] = bad  # stream 2
        made = executor.run(program, damaged, 2)
        for result, right in zip(made, expected, strict=True):
            np.testing.assert_array_equal(result[others], right[others])
            if not np.isfinite(bad):  # nothing that looks like a result may come of it
                assert not np.isfinite(result[4]).all()


def test_programs_that_do_nothing_copy_their_inputs() -> None:
    executor = random_network(70, 20, 2, "int8").executor("auto", exact=False)
    program = _native.Program(num_inputs=2, steps=[], outputs=[1, 0, 1])
    inputs: Sequence[Rows] = random_rows(2, 130, 70)
    made = executor.run(program, inputs, 4)
    for result, i in zip(made, (1, 0, 1), strict=True):
        np.testing.assert_array_equal(result, inputs[i])
