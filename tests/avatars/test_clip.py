"""The small CLIP model is a plain open_clip model."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip_import import import_open_clip

from lreorg_fast.avatars import render, sample_avatars
from lreorg_fast.avatars.recipe.captions import caption
from lreorg_fast.avatars.recipe.clip import ClipMeaning, ClipRecipe, build_clip, train_clip
from lreorg_fast.avatars.recipe.data import picture_set
from lreorg_fast.errors import MissingExtra
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.training.run import Run
from lreorg_fast.weights import open_bundle


def test_without_open_clip_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip.model", None)
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[train\]"):
        build_clip()


@pytest.fixture
def trained(tmp_path: Path) -> ClipMeaning:
    import_open_clip()
    data = picture_set(tmp_path / "data.pt", 64, 3, lambda _: None, people=32)
    recipe = ClipRecipe(steps=3, batch=16, warm_up=1)
    train_clip(recipe, data, tmp_path / "clip", torch.device("cpu"), lambda _: None)
    return ClipMeaning(tmp_path / "clip", torch.device("cpu"))


def test_unused_words_are_zero_and_features_are_unit(trained: ClipMeaning) -> None:
    table = trained.model.token_embedding.weight
    used = (table != 0).any(dim=1)
    assert 20 < int(used.sum()) < 400
    features = trained.keyword_features()
    assert list(features) == list(KEYWORDS)
    assert all(abs(float(f.norm()) - 1) < 1e-5 for f in features.values())


def test_contents_are_distributions(trained: ClipMeaning) -> None:
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    for name, keyword in KEYWORDS.items():
        if keyword.contents:
            (found,) = trained.contents(pictures, [name])
            assert found.shape == (3, len(keyword.contents))
            assert torch.allclose(found.sum(1), torch.ones(3), atol=1e-5)


def test_the_packaged_bundle_is_an_open_clip_model_of_its_own() -> None:
    open_clip = import_open_clip()
    name = f"local-dir:{open_bundle('demo').root}"
    model, tokenizer = open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    avatars = sample_avatars(60, torch.Generator().manual_seed(77))
    sentences = list(KEYWORDS["gender"].sentences)
    with torch.no_grad():
        text = F.normalize(model.encode_text(tokenizer(sentences)), dim=1)
        image = F.normalize(model.encode_image(render(avatars, 64) * 2 - 1), dim=1)
    female = (image @ text.t()).argmax(dim=1) == 1
    assert float((female == (avatars.attributes["gender"] > 0.5)).float().mean()) > 0.9


def test_an_interrupted_run_reads_the_captions_that_it_would_have_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_open_clip()
    from lreorg_fast.avatars.recipe import clip

    data = picture_set(tmp_path / "data.pt", 64, 3, lambda _: None, people=16)
    monkeypatch.setattr(clip, "Run", functools.partial(Run, save_every=0.0))
    read: list[str] = []

    def run(folder: str, stop_after: int | None) -> list[str]:
        read.clear()

        def recorded(label: list[float], draw: random.Random) -> str:
            if stop_after is not None and len(read) == stop_after:
                raise KeyboardInterrupt
            read.append(caption(label, draw))
            return read[-1]

        monkeypatch.setattr(clip, "caption", recorded)
        recipe = ClipRecipe(steps=3, batch=4, warm_up=1)
        train_clip(recipe, data, tmp_path / folder, torch.device("cpu"), lambda _: None)
        return list(read)

    whole = run("whole", None)
    with pytest.raises(KeyboardInterrupt):
        run("broken", 6)
    assert run("broken", None) == whole[4:]
