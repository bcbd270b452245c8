"""Configurations: what is written is read again, and whatever is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import DEFAULT_KEEP, KEYWORDS
from lreorg_fast.training import preset, read_config
from lreorg_fast.training.config import config_to_json
from lreorg_fast.training.settings import differences

LEAST: dict[str, Any] = {
    "generator": "g.pt",
    "identity": "i.pth",
    "clip": {"name": "ViT-B-32", "file": "c.pt"},
}


def read(tmp_path: Path, data: Any) -> Any:
    path = tmp_path / "config.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_config(path)


@pytest.mark.parametrize("name", ["paper", "recommended"])
def test_a_preset_is_complete_and_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    config = preset(name)
    assert read(tmp_path, config_to_json(config)) == config
    assert set(config.training.keyword_shares) == set(KEYWORDS)


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    config = read(tmp_path, LEAST)
    paper = preset("paper").training
    assert config.training.learning_rate == paper.learning_rate == 1e-5
    assert (paper.weights.identity_swap, paper.weights.contents) == (24.0, 30.0)
    assert paper.identity_floor is None
    assert paper.recurrence_every == 0
    assert paper.weights.contents_kept == 0
    assert paper.final_rate == 1
    better = preset("recommended").training
    assert better.kept_keywords == DEFAULT_KEEP
    assert differences(config_to_json(preset("paper")), config_to_json(preset("recommended")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generater": "x"}, "'generater' is no setting; did you mean 'generator'"),
        ({"training": {"learnin_rate": 1}}, "'training.learnin_rate'.*'learning_rate'"),
        ({"training": {"weights": {"latnet": 1}}}, "'training.weights.latnet'.*'latent'"),
        ({"zzz": 1}, "'zzz' is no setting; there are generator"),
        ({"seed": 1.5}, "'seed' is 1.5, but must be a whole number"),
        ({"seed": True}, "'seed' is True, but must be a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"training": {"steps": "many"}}, "'training.steps' is 'many'"),
        ({"training": {"average": "0.9"}}, "'training.average'.*a number"),
        ({"training": {"constant_memory": 1}}, "'training.constant_memory'.*true or false"),
        ({"training": {"kept_keywords": "age"}}, "'training.kept_keywords'.*a list"),
        ({"training": {"kept_keywords": [3]}}, r"'training.kept_keywords\[0\]'.*a text"),
        ({"training": {"keyword_shares": ["age"]}}, "'training.keyword_shares'.*an object"),
        ({"training": {"keyword_shares": {"age": 1.0}}}, "must hold 'identity'"),
        ({"training": 3}, "'?training'? is 3, but must be an object"),
        ({"clip": {"name": "a"}}, "'clip.file' is missing"),
        ({"generator": None}, "'generator' is None"),
        ({"model": {"dim": 0}}, "dim"),
        ({"latents": {"space": "z"}}, "latents.space is 'z'"),
        ({"latents": {"mix_probability": 0.5}}, "set latents.space to w"),
        ({"latents": {"row_noise": 1e9}}, "row_noise"),
        ({"sharpness": 0.0}, "sharpness is 0"),
        ({"report": {"log_every": 0}}, "report.log_every"),
        ({"report": {"sheet_every": -1}}, "report.sheet_every"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read(tmp_path, {**LEAST, **change})
    assert "\n" not in str(caught.value)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"seed": NaN}', "NaN"),
        ('{"seed": 1, "seed": 2}', "twice"),
        ("[" * 100_000, "nested"),
        ("[]", "must be an object"),
        (" " * 1_000_001, "no configuration"),
        ("{}", "'generator' is missing"),
    ],
    ids=["empty", "cut", "NaN", "twice", "nested", "list", "long", "bare"],
)
def test_a_file_that_is_no_configuration_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json"):
        read_config(tmp_path / "none.json")


def test_differences_are_paths() -> None:
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "e": None}
    assert differences(old, old) == []
    assert differences(old, {"a": 1, "b": {"c": 3, "d": [1]}, "f": 1}) == ["b.c", "f"]
