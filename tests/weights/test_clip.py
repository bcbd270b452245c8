"""CLIP models from files: open_clip's own outputs on parameters made from names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import numpy as np
import published
import pytest
import torch
from open_clip_import import import_open_clip
from torch import Tensor, nn

import lreorg_fast as lf
from lreorg_fast.avatars import render, sample_avatars
from lreorg_fast.errors import CheckpointError, ConfigError, LReorgError, MissingExtra
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.weights import Clip, load_clip, open_bundle, registry, write_tensors
from tolerances import tolerance

LIMIT = tolerance("published network", "float32")
TOKENS = json.loads((golden.DATA / "openclip_tokens.json").read_text())
ARRAYS = golden.arrays("openclip")
FULL = "ViT-B-32-quickgelu"
OPENAI_NUMBERS = {
    name: torch.tensor(number)
    for name, number in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408))
}


@pytest.fixture(autouse=True)
def open_clip() -> Any:
    return import_open_clip()


def small_config() -> dict[str, Any]:
    described = json.loads((golden.DATA / "keys_openclip_small.json").read_text())
    config: dict[str, Any] = described["config"]
    return config


def config_file(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**small_config(), **changes}))
    return path


@pytest.fixture
def state(open_clip: Any) -> dict[str, Tensor]:
    """The small model's parameters, made from their names."""
    return dict(golden.fill(open_clip.CLIP(**small_config())).state_dict())


@pytest.fixture
def weights(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def check(clip: Clip, name: str) -> None:
    """Text and image towers against the arrays of one golden."""
    text, unit = clip.text(TOKENS["sentences"]), clip.text(TOKENS["sentences"], normalize=True)
    assert golden.difference(text, ARRAYS[f"{name}_text"]) < LIMIT
    assert golden.difference(unit, ARRAYS[f"{name}_text_norm"]) < LIMIT
    size = clip.image_size
    seen = torch.from_numpy(published.normal("input.clip.image", (2, 3, size, size)))
    # The golden's picture is what the tower sees; image() takes one in [-1, 1].
    mean, deviation = torch.tensor(clip.mean), torch.tensor(clip.deviation)
    picture = (seen * deviation[:, None, None] + mean[:, None, None]) * 2 - 1
    assert golden.difference(clip.image(picture), ARRAYS[f"{name}_image"]) < LIMIT
    unit = clip.image(picture, normalize=True)
    assert golden.difference(unit, ARRAYS[f"{name}_image_norm"]) < LIMIT


def test_token_ids_are_those_of_the_authors(tmp_path: Path, weights: Path) -> None:
    clip = load_clip(config_file(tmp_path), weights)
    assert np.array_equal(clip.tokens(TOKENS["sentences"]).numpy(), ARRAYS["ids"])


@pytest.mark.parametrize(("quick", "name"), [(False, "small"), (True, "small_quickgelu")])
def test_a_small_model_equals_open_clip(
    tmp_path: Path, weights: Path, quick: bool, name: str
) -> None:
    clip = load_clip(config_file(tmp_path, quick_gelu=quick), weights)
    check(clip, name)
    assert (clip.image_size, clip.dim, clip.context_length) == (64, 48, 77)


def test_the_other_activation_is_far_off(tmp_path: Path, weights: Path) -> None:
    clip = load_clip(config_file(tmp_path, quick_gelu=True), weights)
    assert golden.difference(clip.text(TOKENS["sentences"]), ARRAYS["small_text"]) > 100 * LIMIT


def test_vit_b32_equals_open_clip_by_its_name(tmp_path: Path, open_clip: Any) -> None:
    """151 million parameters."""
    config = open_clip.get_model_config(FULL)
    model = golden.fill(open_clip.CLIP(**config))
    keys = golden.published_keys("openclip_vitb32_quickgelu")
    found = [
        (name, tuple(t.shape), str(t.dtype).removeprefix("torch."))
        for name, t in model.state_dict().items()
    ]
    assert found == keys
    write_tensors(tmp_path / "w.safetensors", model.state_dict())
    del model
    check(load_clip(FULL, tmp_path / "w.safetensors"), "vitb32_quickgelu")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_wrapping_of_a_state_dict_is_taken(
    tmp_path: Path, state: dict[str, Tensor], legacy: bool, wrap: Any, prefix: str
) -> None:
    content = wrap({prefix + name: value for name, value in state.items()})
    path = tmp_path / "any"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    clip = load_clip(config_file(tmp_path), path)
    assert golden.difference(clip.text(TOKENS["sentences"]), ARRAYS["small_text"]) < LIMIT


class _Scripted(nn.Module):
    """A TorchScript module with given names: how OpenAI published its models."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            parts = name.split(".")
            place: nn.Module = self
            for part in parts[:-1]:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.register_buffer(parts[-1], value.half() if value.is_floating_point() else value)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_openais_archives_are_read_and_need_quick_gelu(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "ViT-small.pt"
    torch.jit.script(_Scripted(state | OPENAI_NUMBERS)).save(str(path))
    with pytest.raises(CheckpointError, match="QuickGELU"):
        load_clip(config_file(tmp_path), path)
    clip = load_clip(config_file(tmp_path, quick_gelu=True), path)
    wanted = ARRAYS["small_quickgelu_text"]
    assert golden.difference(clip.text(TOKENS["sentences"]), wanted) < 2e-3  # stored in half


def test_the_published_copy_of_openais_weights_is_known_by_its_digest(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_copy = registry.published_file("clip-vit-b32-openai")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    known = replace(published_copy, bytes=weights.stat().st_size, sha256=digest)
    monkeypatch.setattr("lreorg_fast.weights.clip.published_file", lambda name: known)
    with pytest.raises(CheckpointError, match=r"QuickGELU.*config\.json-quickgelu"):
        load_clip(config_file(tmp_path), weights)
    load_clip(config_file(tmp_path, quick_gelu=True), weights)
    other = replace(known, sha256=published_copy.sha256)
    monkeypatch.setattr("lreorg_fast.weights.clip.published_file", lambda name: other)
    load_clip(config_file(tmp_path), weights)  # of the same size only


def test_the_demo_bundle_is_a_model_of_its_own() -> None:
    clip = load_clip(open_bundle("demo").root)
    assert (clip.mean, clip.image_size) == ((0.5, 0.5, 0.5), 64)
    table = open_bundle("demo").tensors("tables")["keyword.age"].float()
    found = clip.text(["age"], normalize=True)[0]
    assert float(found @ table / table.norm()) > 0.999  # the bundle's weights are bfloat16
    avatars = sample_avatars(60, torch.Generator().manual_seed(77))
    shares = clip.classify(render(avatars, 64) * 2 - 1, KEYWORDS["gender"].sentences)
    assert torch.allclose(shares.sum(1), torch.ones(60), atol=1e-5)
    female = shares.argmax(dim=1) == 1
    assert float((female == (avatars.attributes["gender"] > 0.5)).float().mean()) > 0.9


def test_pictures_of_other_sizes_are_resized_and_have_gradients(
    tmp_path: Path, weights: Path
) -> None:
    clip = load_clip(config_file(tmp_path), weights)
    small = torch.rand(2, 3, 64, 64) * 2 - 1
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3).requires_grad_()
    found = clip.image(large, normalize=True)
    assert found.shape == (2, 48)
    found.sum().backward()
    assert large.grad is not None
    assert float(large.grad.abs().max()) > 0
    same = (found.detach() * clip.image(small, normalize=True)).sum(1)
    assert float(same.min()) > 0.95
    assert not any(p.requires_grad for p in clip.model.parameters())


@pytest.mark.parametrize(
    ("sentences", "reason"),
    [([], "at least one"), ("one text", "list"), (["a", " "], "empty"), (["word " * 90], "tokens")],
)
def test_sentences_that_would_be_cut_or_mean_nothing_are_refused(
    tmp_path: Path, weights: Path, sentences: Any, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_clip(config_file(tmp_path), weights).text(sentences)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"embed_dim": 49}, "text_projection"),
        ({"vision_cfg": {**small_config()["vision_cfg"], "layers": 3}}, "missing"),
        ({"vision_cfg": {**small_config()["vision_cfg"], "layers": 10**9}}, "layers"),
        ({"vision_cfg": {**small_config()["vision_cfg"], "width": 10**9}}, "width"),
        ({"vision_cfg": {**small_config()["vision_cfg"], "patch_size": 0}}, "build"),
        ({"vision_cfg": {**small_config()["vision_cfg"], "image_size": [64, 10**5]}}, "image_size"),
        (
            {"vision_cfg": {**small_config()["vision_cfg"], "pos_embed_type": "sin_cos_2d"}},
            "learnt",
        ),
        ({"vision_cfg": {"timm_model_name": "hf-hub:timm/resnet18", "image_size": 64}}, "fetch;"),
        ({"text_cfg": {**small_config()["text_cfg"], "context_length": 10**5}}, "context_length"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "fetches"),
        ({"text_cfg": None}, "text_cfg"),
        ({"unknown": 1}, "build"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(
    tmp_path: Path, weights: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LReorgError, match=reason):
        load_clip(config_file(tmp_path, **changes), weights)


def test_damaged_weights_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["ln_final.weight"] = torch.full_like(state["ln_final.weight"], torch.nan)
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match=r"NaN.*ln_final"):
        load_clip(config_file(tmp_path), tmp_path / "nan.pt")


def test_what_is_no_clip_is_named(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ConfigError, match="no model of open_clip"):
        load_clip("ViT-unknown", weights)
    with pytest.raises(ConfigError, match="no weights"):
        load_clip(FULL)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="no configuration"):
        load_clip(tmp_path / "broken.json", weights)
    generator = golden.DATA / "nvpkl_ada.pkl"
    with pytest.raises(CheckpointError, match=r"NVlabs.*load_generator"):
        load_clip(config_file(tmp_path), generator)
    with pytest.raises(CheckpointError, match=r"a CLIP model.*load_clip"):
        lf.weights.load_generator(weights)


def test_without_open_clip_the_remedy_is_named(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[train\]"):
        load_clip(config_file(tmp_path), weights)
