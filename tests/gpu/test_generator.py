"""The prepared generator on a GPU against the plain one there, float32 and bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import lreorg_fast as lf
from lreorg_fast.models import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.models.inference import network_dtype, prepare_generator
from lreorg_fast.models.prepared_generator import PreparedGenerator
from lreorg_fast.models.stylegan2 import published_channels
from tolerances import tolerance

BFLOAT16 = torch.bfloat16
CONFIGS = {
    "odd": StyleGAN2Config(16, 24, 2, {4: 24, 8: 7, 16: 9}),
    "full": StyleGAN2Config(),
    "1024": StyleGAN2Config(1024, channels=published_channels(1024)),
}


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module", params=CONFIGS)
def generator(request) -> StyleGAN2Generator:
    torch.manual_seed(0)
    made = StyleGAN2Generator(CONFIGS[request.param]).requires_grad_(False).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("noise.weight", "activate.bias", "rgb1.bias")):
            nn.init.normal_(parameter, std=0.3)
    return made.cuda()


def latents(generator: StyleGAN2Generator, count: int) -> Tensor:
    return torch.randn(count, generator.num_ws, generator.config.style_dim, device="cuda")


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


@pytest.mark.parametrize("noise", ["constant", "none"])
@pytest.mark.parametrize("count", [1, 3])
def test_it_equals_the_plain_one(generator, count, noise) -> None:
    w = latents(generator, count)
    found = prepare_generator(generator).synthesis(w, noise=noise)
    assert found.is_cuda
    wanted = generator.synthesis(w, noise=noise)
    assert relative(found, wanted) < tolerance("prepared network on a GPU", "float32")


def test_in_bfloat16_it_is_no_worse_than_plain_bfloat16(generator) -> None:
    w = latents(generator, 4)
    wanted = generator.synthesis(w)
    plain = rms(generator.synthesis(w, dtype=BFLOAT16) - wanted)
    found = rms(prepare_generator(generator, BFLOAT16).synthesis(w) - wanted)
    name = "prepared network ratio to plain bfloat16 PyTorch"
    assert 0 < found < tolerance(name, "bfloat16") * plain


def test_random_noise_is_made_on_the_device(generator) -> None:
    prepared, w = prepare_generator(generator, BFLOAT16), latents(generator, 1)
    first, second = (prepared.synthesis(w, noise="random") for _ in range(2))
    assert first.is_cuda
    assert not torch.equal(first, second)


def test_a_captured_call_repeats_with_new_latents(generator) -> None:
    prepared, w = prepare_generator(generator, BFLOAT16), latents(generator, 2)
    other = latents(generator, 2)
    wanted = prepared.synthesis(other)
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            prepared.synthesis(w)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            picture = prepared.synthesis(w)
        w.copy_(other)
        graph.replay()
    # Other streams may get other algorithms of cuDNN, so not bit for bit.
    assert relative(picture, wanted) < 0.05


def test_the_current_stream_orders_it(generator) -> None:
    prepared, w = prepare_generator(generator), latents(generator, 1)
    wanted = prepared.synthesis(w)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = prepared.synthesis(w.clone())
    stream.synchronize()
    assert relative(found, wanted) < tolerance("prepared network on a GPU", "float32")


def test_the_pipeline_takes_it_by_itself() -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this device does not multiply bfloat16")
    assert network_dtype("auto", "cuda") == BFLOAT16
    anonymizer = lf.Anonymizer.load("demo", device="cuda:0")
    assert isinstance(anonymizer.generator, PreparedGenerator)
    assert anonymizer.precision == "bfloat16"
