"""Convolutions with weights laid out beforehand, against float64."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast import _native
from lreorg_fast.models.convolution import (
    DirectConvolution,
    Window,
    WinogradConvolution,
    convolution,
)
from tolerances import tolerance

INNER = Window(padding=(1, 1))
needs_winograd = pytest.mark.skipif(
    not _native.winograd_pays(), reason="this CPU lacks AVX512-BF16, or has AMX"
)


def case(n: int, h: int, w: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(h + inputs)
    x = torch.randn(n, h, w, inputs, generator=generator)
    return x, torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5


def exact(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    y = F.conv2d(
        x.double().permute(0, 3, 1, 2), weight.double(), None, window.stride, window.padding
    )
    return y.permute(0, 2, 3, 1)


@pytest.mark.parametrize("window", [INNER, Window(2, (1, 1)), Window(padding=(1, 0)), Window(3)])
@pytest.mark.parametrize("shape", [(1, 9, 7, 5, 6), (3, 4, 4, 16, 40)])
def test_direct_convolution(window: Window, shape) -> None:
    x, weight = case(*shape)
    run = DirectConvolution(weight, window, dtype=torch.float32, size=(4, 4))
    assert run(x).is_contiguous()
    assert torch.allclose(run(x).double(), exact(x, weight, window), atol=1e-5)


def test_direct_convolution_with_bias_and_activation() -> None:
    x, weight = case(2, 6, 6, 8, 10)
    bias = torch.linspace(-1, 1, 10)
    run = DirectConvolution(weight, INNER, dtype=torch.float32, size=(6, 6), bias=bias, leak=0.01)
    wanted = F.leaky_relu(exact(x, weight, INNER) + bias, 0.01)
    assert torch.allclose(run(x).double(), wanted, atol=1e-5)


def test_without_prepacking_the_plain_convolution_runs_and_says_so(monkeypatch, caplog) -> None:
    x, weight = case(2, 6, 6, 8, 10)
    bias = torch.linspace(-1, 1, 10)
    arguments = {"dtype": torch.float32, "size": (6, 6), "bias": bias, "leak": 0.01}
    packed = DirectConvolution(weight, INNER, **arguments)(x)
    monkeypatch.setattr("lreorg_fast.log._said", set())
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING, "lreorg_fast"):
        plain = DirectConvolution(weight, INNER, **arguments)
        DirectConvolution(weight, INNER, **arguments)
    assert torch.allclose(plain(x), packed, atol=1e-5)
    assert len([record for record in caplog.records if "oneDNN" in record.message]) == 1


HALVING = Window(2, (1, 1))
each_stride = pytest.mark.parametrize("window", [INNER, HALVING], ids=["stride 1", "stride 2"])


@needs_winograd
@each_stride
@pytest.mark.parametrize(
    "shape", [(1, 8, 8, 32, 32), (2, 12, 16, 64, 96), (3, 4, 4, 96, 32), (1, 36, 8, 32, 64)]
)
def test_winograd_convolution(shape, window: Window) -> None:
    x, weight = case(*shape)
    x = x.bfloat16()
    wanted = exact(x, weight, window)
    error = WinogradConvolution(weight, window.stride)(x).double() - wanted
    limit = tolerance("winograd convolution", "bfloat16")
    assert error.square().mean().sqrt() < limit * wanted.square().mean().sqrt()


@needs_winograd
@each_stride
def test_winograd_convolution_with_bias_and_activation(window: Window) -> None:
    x, weight = case(2, 8, 12, 32, 32)
    x, bias = x.bfloat16(), torch.linspace(-1, 1, 32)
    wanted = F.leaky_relu(exact(x, weight, window) + bias, 0.01)
    run = WinogradConvolution(weight, window.stride, bias=bias, leak=0.01)
    error = run(x).double() - wanted
    limit = tolerance("winograd convolution", "bfloat16")
    assert error.square().mean().sqrt() < limit * wanted.square().mean().sqrt()


@needs_winograd
@each_stride
def test_winograd_pictures_and_threads_do_not_see_each_other(window: Window) -> None:
    x, weight = case(5, 20, 12, 32, 64)
    x, run, before = (
        x.bfloat16(),
        WinogradConvolution(weight, window.stride),
        torch.get_num_threads(),
    )
    together = run(x)
    assert torch.equal(torch.cat([run(one[None]) for one in x]), together)
    try:
        torch.set_num_threads(3)
        assert torch.equal(run(x), together)
    finally:
        torch.set_num_threads(before)


@needs_winograd
def test_winograd_is_chosen_where_it_fits() -> None:
    def kind(window: Window = INNER, dtype=torch.bfloat16, size=(8, 8), width=32) -> type:
        weight = torch.ones(width, width, 3, 3)
        return type(convolution(weight, window, dtype=dtype, size=size))

    assert kind() is WinogradConvolution
    assert kind(window=HALVING, size=(32, 32), width=128) is WinogradConvolution
    for other in (
        kind(window=HALVING, size=(32, 34), width=128),
        kind(window=HALVING, size=(16, 16), width=128),
        kind(window=HALVING, size=(32, 32), width=64),
        kind(window=Window(3, (1, 1))),
        kind(window=Window()),
        kind(dtype=torch.float32),
        kind(size=(8, 9)),
        kind(size=(4, 4)),
        kind(width=40),
    ):
        assert other is DirectConvolution


@needs_winograd
def test_winograd_refuses_shapes_that_it_would_misread() -> None:
    _, weight = case(1, 8, 8, 32, 32)
    with pytest.raises(ValueError, match="even"):
        WinogradConvolution(weight)(torch.zeros(1, 7, 8, 32, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="weights"):
        WinogradConvolution(weight)(torch.zeros(1, 8, 8, 64, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="dtype"):
        WinogradConvolution(weight)(torch.zeros(1, 8, 8, 32))
