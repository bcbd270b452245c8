"""The prepared generator and encoder against the modules that they are made from."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lreorg_fast import _native
from lreorg_fast.errors import ConfigError
from lreorg_fast.models import (
    E4EConfig,
    E4EEncoder,
    StyleGAN2Config,
    StyleGAN2Generator,
    inference,
)
from lreorg_fast.models.inference import (
    inference_generator,
    network_dtype,
    prepare_encoder,
    prepare_generator,
)
from lreorg_fast.models.pixels import to_pictures
from lreorg_fast.models.prepared_generator import PreparedGenerator
from lreorg_fast.weights.bundle import open_bundle
from lreorg_fast.weights.parts import load_part
from tolerances import tolerance

BFLOAT16 = torch.bfloat16


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomize(module: nn.Module) -> None:
    """Parameters that leave nothing at its neutral start: noise, biases, running statistics."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.5)
            part.running_var.uniform_(0.5, 2)
            part.weight.uniform_(0.5, 1.5)
            part.bias.normal_(0, 0.5)
    for name, parameter in module.named_parameters():
        if name.endswith(("noise.weight", "activate.bias", "rgb1.bias")):
            parameter.normal_(0, 0.3)


# 24 and 8 channels keep oneDNN, 32 and 64 take Winograd where it pays.
GENERATORS = {
    "odd": StyleGAN2Config(16, 24, 2, {4: 24, 8: 7, 16: 9}),
    "even": StyleGAN2Config(32, 32, 2, {4: 64, 8: 64, 16: 32, 32: 32}),
}
ENCODERS = {
    "odd": E4EConfig(32, 8, 16, 8, 5, (7, 6, 9, 8), (2, 1, 1, 2)),
    "even": E4EConfig(64, 10, 32, 32, 32, (32, 32, 64, 64), (1, 2, 1, 1)),
}


@pytest.fixture(scope="module", params=GENERATORS)
def generator(request) -> StyleGAN2Generator:
    made = StyleGAN2Generator(GENERATORS[request.param]).requires_grad_(False).eval()
    randomize(made)
    return made


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request) -> E4EEncoder:
    made = E4EEncoder(ENCODERS[request.param]).requires_grad_(False).eval()
    randomize(made)
    made.latent_avg.normal_(generator=seeded(1))
    return made


def latents(generator: StyleGAN2Generator, count: int, rows: bool = True) -> Tensor:
    shape = (count, generator.num_ws) if rows else (count,)
    return torch.randn(*shape, generator.config.style_dim, generator=seeded(count))


def pictures(encoder: E4EEncoder, count: int) -> Tensor:
    size = encoder.config.input_size
    return torch.rand(count, 3, size, size, generator=seeded(count)) * 2 - 1


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


def levels_of(made: Tensor) -> Tensor:
    """Pictures in 8-bit levels."""
    return torch.from_numpy(np.stack(to_pictures(made))).float()


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("noise", ["constant", "none"])
@pytest.mark.parametrize("count", [1, 3])
def test_generator_equals_the_plain_one(generator, rows, noise, count) -> None:
    w = latents(generator, count, rows)
    wanted = copy.deepcopy(generator).double().synthesis(w.double(), noise=noise)
    found = prepare_generator(generator).synthesis(w, noise=noise)
    assert found.dtype == w.dtype
    assert relative(found, wanted) < tolerance("prepared network", "float32")


@pytest.mark.parametrize("count", [1, 3])
def test_encoder_equals_the_plain_one(encoder, count) -> None:
    x = pictures(encoder, count)
    assert relative(prepare_encoder(encoder)(x), encoder(x)) < tolerance(
        "prepared network", "float32"
    )


def test_generator_in_bfloat16_is_no_worse_than_plain_bfloat16(generator) -> None:
    w = latents(generator, 8)
    wanted = generator.synthesis(w)
    plain = rms(generator.synthesis(w, dtype=BFLOAT16) - wanted)
    found = rms(prepare_generator(generator, BFLOAT16).synthesis(w) - wanted)
    name = "prepared network ratio to plain bfloat16 PyTorch"
    assert 0 < found < tolerance(name, "bfloat16") * plain


def test_encoder_in_bfloat16_is_no_worse_than_plain_bfloat16(encoder) -> None:
    x = pictures(encoder, 8)
    wanted = encoder(x)
    low = copy.deepcopy(encoder).bfloat16()
    for block in low.styles:
        block.linear.float()
    plain = rms(low(x.bfloat16()).float() - wanted)
    found = rms(prepare_encoder(encoder, BFLOAT16)(x) - wanted)
    name = "prepared network ratio to plain bfloat16 PyTorch"
    assert 0 < found < tolerance(name, "bfloat16") * plain


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
def test_batches_equal_singles(generator, encoder, dtype) -> None:
    """Up to the order of sums, which oneDNN may choose by size."""
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    w, x = latents(generator, 3), pictures(encoder, 3)
    synthesis, encode = (
        prepare_generator(generator, dtype).synthesis,
        prepare_encoder(encoder, dtype),
    )
    assert relative(torch.cat([synthesis(one[None]) for one in w]), synthesis(w)) < limit
    assert relative(torch.cat([encode(one[None]) for one in x]), encode(x)) < limit


def test_random_noise_is_fresh_and_of_the_right_size(generator) -> None:
    prepared, w = prepare_generator(generator), latents(generator, 1, rows=False)
    w = w.expand(400, -1)
    torch.manual_seed(0)
    wanted = generator.synthesis(w, noise="random").std(dim=0)
    found = prepared.synthesis(w, noise="random").std(dim=0)
    assert float(found.mean()) == pytest.approx(float(wanted.mean()), rel=0.05)


def test_empty_batches(generator, encoder) -> None:
    size = generator.resolution
    assert prepare_generator(generator).synthesis(latents(generator, 1)[:0]).shape == (
        0,
        3,
        size,
        size,
    )
    codes = prepare_encoder(encoder)(pictures(encoder, 1)[:0])
    assert codes.shape == (0, encoder.config.num_ws, encoder.config.style_dim)


def test_mapping_and_sizes_are_the_generators(generator) -> None:
    prepared, z = prepare_generator(generator), latents(generator, 2, rows=False)
    assert torch.equal(prepared.mapping(z, 0.5), generator.mapping(z, 0.5))
    assert (prepared.num_ws, prepared.resolution) == (generator.num_ws, generator.resolution)


def test_later_changes_of_the_networks_are_not_seen(generator, encoder) -> None:
    source, other = copy.deepcopy(generator), copy.deepcopy(encoder)
    prepared, encode = prepare_generator(source), prepare_encoder(other)
    w, x = latents(generator, 1), pictures(encoder, 1)
    before = prepared.synthesis(w), encode(x), prepared.mapping(w[:, 0])
    for tensor in (*source.state_dict().values(), *other.state_dict().values(), other.latent_avg):
        tensor.mul_(2)
    after = prepared.synthesis(w), encode(x), prepared.mapping(w[:, 0])
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_a_gradient_and_wrong_shapes_are_refused(generator, encoder) -> None:
    prepared, encode = prepare_generator(generator), prepare_encoder(encoder)
    with pytest.raises(ConfigError, match="gradient"):
        prepared.synthesis(latents(generator, 1).requires_grad_())
    with pytest.raises(ConfigError, match="gradient"):
        encode(pictures(encoder, 1).requires_grad_())
    with pytest.raises(ConfigError, match="latents"):
        prepared.synthesis(torch.zeros(1, 99, generator.config.style_dim))
    with pytest.raises(ConfigError, match="pictures"):
        encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="float16"):
        prepare_generator(generator, torch.float16)
    with torch.device("meta"), pytest.raises(ConfigError, match="meta"):
        prepare_encoder(E4EEncoder(ENCODERS["odd"]))


def test_results_can_be_used_outside_of_inference_mode(generator) -> None:
    w = latents(generator, 1)
    scale = torch.ones((), requires_grad=True)
    (prepare_generator(generator).synthesis(w) * scale).sum().backward()
    assert scale.grad is not None


def test_the_demo_bundles_pictures_look_the_same_in_bfloat16() -> None:
    bundle = open_bundle("demo")
    generator, encoder = load_part(bundle, "generator"), load_part(bundle, "encoder")
    assert isinstance(generator, StyleGAN2Generator)
    assert isinstance(encoder, E4EEncoder)
    with torch.inference_mode():
        w = generator.mapping(torch.randn(8, generator.config.z_dim, generator=seeded(5)))
        made = generator.synthesis(w).clamp(-1, 1)
        wanted = levels_of(generator.synthesis(encoder(made)))
        low = prepare_generator(generator, BFLOAT16), prepare_encoder(encoder, BFLOAT16)
        found = levels_of(low[0].synthesis(low[1](made)))
    levels = (found - wanted).abs()
    assert levels.max() <= tolerance("prepared network picture", "bfloat16")
    assert levels.mean() < 0.5


def test_precision_is_chosen_by_the_machine_and_said_once(monkeypatch, caplog) -> None:
    monkeypatch.setattr("lreorg_fast.log._said", set())
    with caplog.at_level(logging.INFO, "lreorg_fast"):
        chosen = {network_dtype("auto") for _ in range(3)}
    assert chosen == {BFLOAT16 if _native.multiplies_bfloat16() else torch.float32}
    assert len(caplog.records) == 1
    monkeypatch.setattr(_native, "multiplies_bfloat16", lambda: False)
    assert network_dtype("auto") == torch.float32
    assert network_dtype("bfloat16") == BFLOAT16


@pytest.mark.parametrize(("reason", "dtype"), [(None, BFLOAT16), ("it is old", torch.float32)])
def test_precision_on_a_gpu_follows_what_can_be_prepared(monkeypatch, reason, dtype) -> None:
    monkeypatch.setattr(inference, "unprepared_reason", lambda device: reason)
    assert network_dtype("auto", "cuda:0") == dtype
    assert network_dtype("float32", "cuda:0") == torch.float32


def test_a_generator_that_cannot_be_prepared_runs_as_it_is(generator, monkeypatch, caplog) -> None:
    monkeypatch.setattr("lreorg_fast.log._said", set())
    assert isinstance(inference_generator(generator, torch.float32), PreparedGenerator)
    monkeypatch.setattr(inference, "unprepared_reason", lambda device: "it is old")
    for _ in range(2):
        assert inference_generator(generator, torch.float32) is generator
    assert [record.message for record in caplog.records] == [
        "the generator on cpu runs unprepared: it is old"
    ]
    with pytest.raises(ConfigError, match="old"):
        prepare_generator(generator)


def test_precisions_that_cannot_be_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="precision is 'half'"):
        network_dtype("half")
    with pytest.raises(ConfigError, match=r"cuda:0.*no CUDA device"):
        network_dtype("bfloat16", "cuda:0")
    with pytest.raises(ConfigError, match="'cpu' and 'cuda' only"):
        network_dtype("bfloat16", "meta")
