"""Exported stages in onnxruntime against the networks that they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from onnx_runs import distance, features, latents, pictures, session_of

import lreorg_fast as lf
from lreorg_fast.cdfnet import CDFNet, Engine
from lreorg_fast.errors import ConfigError
from lreorg_fast.export.onnx_generator import GeneratorNodes
from lreorg_fast.export.onnx_graph import Graph
from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, stage_model
from lreorg_fast.models import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.weights.parts import load_part
from tolerances import tolerance

Exported = Callable[..., Callable[..., dict[str, np.ndarray]]]
BATCHES = (1, 2, 5)
DTYPES = ("float32", "float16")
KEEP = ("gender", "age", "expression", "makeup")


def reference(networks: Networks) -> Engine:
    """The network that defines what is correct, in float64."""
    net = cast(CDFNet, load_part(networks.bundle, "cdfnet"))
    keywords = {name: networks.tables[f"keyword.{name}"].float() for name in networks.keywords}
    return lf.compile(net, keywords, backend="reference", dtype="float64")


@pytest.fixture(scope="module")
def engine(demo: Networks) -> Engine:
    return reference(demo)


def reorganized(
    engine: Engine, s: torch.Tensor, replace: dict[str, np.ndarray], keep: Sequence[str]
) -> np.ndarray:
    given = {name: torch.from_numpy(f).double()[:, None] for name, f in replace.items()}
    return engine.reorganize(s.double(), given, list(keep)).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_encoder(demo: Networks, exported: Exported, dtype: str) -> None:
    run, wanted = exported(demo, stage="encoder", dtype=dtype), demo.encoder
    for batch in BATCHES:
        x = pictures(demo, batch)
        found = run(picture=x)["latent"]
        assert distance(found, wanted(x)) < tolerance("onnx encoder", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_generator(demo: Networks, exported: Exported, dtype: str) -> None:
    run = exported(demo, stage="generator", dtype=dtype)
    for batch in BATCHES:
        w = latents(demo, batch) + 0.1 * torch.randn(1, demo.rows, 1)
        found = run(latent=w)["rendered"]
        wanted = demo.generator.synthesis(w)
        assert distance(found, wanted) < tolerance("onnx generator", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["standard", "plugin"])
def test_the_reorganization(
    demo: Networks, engine: Engine, exported: Exported, form: str, dtype: str
) -> None:
    run = exported(demo, stage="cdfnet", form=form, dtype=dtype)
    for batch in BATCHES:
        s, drawn = latents(demo, batch), features(demo, batch)
        found = run(latent=s, replace_identity=drawn)["reorganized"]
        wanted = reorganized(engine, s, {"identity": drawn}, KEEP)
        assert distance(found, wanted) < tolerance(f"onnx cdfnet {form}", dtype)
        assert distance(found, s) > 0.1


def test_matrices_in_bfloat16_run_through_the_function(
    demo: Networks, engine: Engine, exported: Exported
) -> None:
    run = exported(demo, stage="cdfnet", form="plugin", dtype="bfloat16")
    s, drawn = latents(demo, 2), features(demo, 2)
    found = run(latent=s, replace_identity=drawn)["reorganized"]
    error = distance(found, reorganized(engine, s, {"identity": drawn}, KEEP))
    assert 1e-5 < error < tolerance("onnx cdfnet plugin", "bfloat16")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_pipeline(demo: Networks, engine: Engine, exported: Exported, dtype: str) -> None:
    run = exported(demo, stage="pipeline", dtype=dtype)
    for batch in BATCHES:
        x, drawn = pictures(demo, batch), features(demo, batch)
        found = run(picture=x, replace_identity=drawn)["rendered"]
        s = torch.from_numpy(reorganized(engine, demo.encoder(x), {"identity": drawn}, KEEP))
        wanted = demo.generator.synthesis(s.float())
        assert distance(found, wanted, relative=False) < tolerance("onnx pipeline", dtype)


def test_the_parts_are_the_pipeline(demo: Networks, exported: Exported) -> None:
    """As docs/export.md tells a host to run them, with two hidden keywords."""
    x, hide = pictures(demo, 2), ("identity", "age")
    drawn = {"identity": features(demo, 2), "age": features(demo, 2, seed=4)}
    whole = exported(demo, stage="pipeline", hide=hide)
    analysis = exported(demo, stage="analysis", hide=hide[:1], form="plugin")(picture=x)
    key = exported(demo, stage="key", hide=hide, form="plugin")(
        latent=analysis["latent"], replace_identity=drawn["identity"]
    )
    made = exported(demo, stage="rendering", hide=hide)(
        latent=analysis["latent"],
        **{f"replace_{name}": drawn[name] for name in hide},
    )
    together = whole(picture=x, **{f"replace_{name}": drawn[name] for name in hide})
    assert distance(made["rendered"], together["rendered"]) < 1e-5
    engine, s = reference(demo), torch.from_numpy(analysis["latent"])
    first, _ = engine.disentangle(s.double(), "identity")
    assert distance(analysis["key_identity"], first) < tolerance("onnx cdfnet standard", "float32")
    between = torch.from_numpy(reorganized(engine, s, {"identity": drawn["identity"]}, []))
    second, _ = engine.disentangle(between, "age")
    assert distance(key["key_age"], second) < tolerance("onnx cdfnet standard", "float32")


def test_a_baked_replacement_is_that_input_for_everybody(
    demo: Networks, exported: Exported
) -> None:
    drawn, s = features(demo, 1), latents(demo, 3)
    baked = session_of(
        stage_model(demo, OnnxOptions(stage="cdfnet", replace={"identity": drawn[0]}))
    )
    given = exported(demo, stage="cdfnet")(latent=s, replace_identity=drawn.repeat(3, axis=0))
    assert distance(baked(latent=s)["reorganized"], given["reorganized"]) < 1e-6


@pytest.mark.parametrize("form", ["standard", "plugin"])
def test_kept_keywords_as_an_input(toys: Networks, exported: Exported, form: str) -> None:
    options: dict[str, Any] = {"stage": "cdfnet", "keep": ("age", "color"), "form": form}
    model = stage_model(toys, OnnxOptions(**options, keep_input=True))
    choices = [name for name in toys.keywords if name != "identity"]
    run, s, drawn = session_of(model), latents(toys, 2), features(toys, 2)

    def chosen(*names: str) -> np.ndarray:
        numbers = np.array([choices.index(name) for name in names])
        return run(latent=s, replace_identity=drawn, keep=numbers)["reorganized"]

    for names in (("age", "color"), ("color", "age"), ("gender", "curly")):
        fixed = exported(toys, stage="cdfnet", keep=names)
        wanted = fixed(latent=s, replace_identity=drawn)["reorganized"]
        assert distance(chosen(*names), wanted) < 1e-5
    assert distance(chosen("age", "color"), chosen("color", "gender")) > 1e-3
    # No number undoes a hiding, whatever a caller passes.
    for number in (-1, len(choices) - 1):
        numbers = np.array([number, number])
        last = run(latent=s, replace_identity=drawn, keep=numbers)["reorganized"]
        assert distance(last, chosen(choices[-1], choices[-1])) < 1e-6
    with pytest.raises(Exception, match=r"(?i)out of (data )?bounds|gather"):
        run(latent=s, replace_identity=drawn, keep=np.array([len(choices), 0]))


def generator_run(generator: StyleGAN2Generator, dtype: str) -> Callable[..., Any]:
    graph = Graph(20)
    shape = (graph.batch, generator.num_ws, generator.config.style_dim)
    picture = GeneratorNodes(graph, generator, dtype).picture(graph.input("latent", shape))
    size = generator.resolution
    graph.output("rendered", picture, (graph.batch, 3, size, size))
    return session_of(graph.model("generator", {}))


def small_generator(clamp: float | None = None) -> StyleGAN2Generator:
    config = StyleGAN2Config(
        32, 16, mapping_layers=2, channels={4: 16, 8: 16, 16: 8, 32: 8}, conv_clamp=clamp
    )
    generator = StyleGAN2Generator(config).eval().requires_grad_(False)
    for layer in (generator.conv1, *generator.convs):
        cast(Any, layer).noise.weight.fill_(0.3)
        torch.nn.init.normal_(cast(Any, layer).activate.bias)
    return generator


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_noise_bias_and_clamp(clamp: float | None) -> None:
    generator = small_generator(clamp)
    w = torch.randn(3, generator.num_ws, 16)
    found = generator_run(generator, "float32")(latent=w)["rendered"]
    wanted = generator.synthesis(w)
    assert distance(found, wanted) < tolerance("onnx generator", "float32")
    without = small_generator(None).synthesis(w)
    assert clamp is None or distance(wanted, without) > 0.01


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_large_and_small_styles_stay_finite_in_float16(factor: float) -> None:
    """Without dividing by the largest value 1e4 overflows, and 1e-4 is rounded to nothing."""
    generator = small_generator()
    for layer in (generator.conv1, *generator.convs):
        modulation = cast(Any, layer).conv.modulation
        modulation.weight.mul_(factor)
        modulation.bias.mul_(factor)
    w = torch.randn(2, generator.num_ws, 16)
    found = generator_run(generator, "float16")(latent=w)["rendered"]
    assert np.isfinite(found).all()
    # Against eps in the demodulation, which is not small at 1e-4.
    assert distance(found, generator.synthesis(w)) < 5e-3


def test_a_style_of_zeros_gives_no_nan() -> None:
    generator = small_generator()
    modulation = cast(Any, generator.convs[0]).conv.modulation
    modulation.weight.zero_()
    modulation.bias.zero_()
    w = torch.randn(2, generator.num_ws, 16)
    found = generator_run(generator, "float32")(latent=w)["rendered"]
    assert distance(found, generator.synthesis(w)) < tolerance("onnx generator", "float32")


def test_what_is_not_finite_stays_so(demo: Networks, exported: Exported) -> None:
    """A host can look for it at the end: nothing on the way turns NaN into a colour."""
    s, drawn = latents(demo, 2), features(demo, 2)
    s[1, 3, 7] = float("nan")
    made = exported(demo, stage="rendering")(latent=s, replace_identity=drawn)["rendered"]
    assert np.isfinite(made[0]).all()
    assert not np.isfinite(made[1]).all()


def test_a_fixed_batch_is_the_only_one(toys: Networks) -> None:
    model = stage_model(toys, OnnxOptions(stage="generator", batch=2))
    run = session_of(model)
    assert run(latent=latents(toys, 2))["rendered"].shape[0] == 2
    with pytest.raises(Exception, match="Expected: 2"):
        run(latent=latents(toys, 3))


def test_keywords_that_a_bundle_lacks(toys: Networks) -> None:
    with pytest.raises(ConfigError, match="nose"):
        stage_model(toys, OnnxOptions(stage="cdfnet", hide=("nose",)))
