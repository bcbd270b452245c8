"""`lf.training.train`: weights files and a configuration to a network, and what may be wrong."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_judges import COND, ToyClip, toy_files
from toy_training import stopped_at

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.media import read_image

SAID: list[str] = []


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    toy_files(folder)
    return folder


@pytest.fixture(autouse=True)
def stand_in_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lreorg_fast.weights.clip.load_clip", lambda name, path: ToyClip())


def settings(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "generator": "generator.safetensors",
        "identity": "identity.safetensors",
        "clip": {"name": "toy", "file": "clip.bin"},
        "model": {"dim": 16, "cond_dim": COND, "num_blocks": 2, "growth": 4, "clamp": 1.0},
        "training": {
            "steps": 7,
            "batch": 2,
            "learning_rate": 1e-3,
            "keyword_shares": {"identity": 1.0, "age": 1.0, "gender": 1.0},
            "average": 0.9,
        },
        "sharpness": 5.0,
        "seed": 3,
        "report": {
            "log_every": 2, "sheet_every": 4, "validate_every": 3, "validation_people": 8,
            "save_every_seconds": 1e-6,
        },
    }  # fmt: skip
    return {**data, **changes}


def write(weights: Path, name: str, data: dict[str, Any]) -> Path:
    path = weights / f"{name}.json"
    path.write_text(json.dumps(data))
    return path


def train(config: Path, run: Path) -> Path:
    return lf.training.train(config, run, device="cpu", say=SAID.append)


@pytest.fixture(scope="module")
def finished(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lreorg_fast.weights.clip.load_clip", lambda name, path: ToyClip())
        train(write(weights, "whole", settings()), run)
    return run


def steps_of(run: Path) -> list[int]:
    with (run / "log.csv").open() as stream:
        return sorted({int(row["step"]) for row in csv.DictReader(stream)})


def test_a_run_leaves_a_network_and_what_one_looks_at(finished: Path) -> None:
    for name in ("cdfnet.safetensors", "cdfnet-average.safetensors"):
        net = lf.weights.load_cdfnet(finished / name)
        assert (net.config.dim, net.config.clamp) == (16, 1.0)
    assert steps_of(finished) == [2, 4, 6]
    with (finished / "log.csv").open() as stream:
        terms = {row["term"] for row in csv.DictReader(stream)}
    assert {"total", "learning_rate", "gradient_norm", "seconds", "latent", "information"} <= terms
    lines = [json.loads(line) for line in (finished / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert set(lines[0]["swaps"]) == {"identity", "age", "gender"}
    assert 0 <= lines[0]["swaps"]["age"]["stays"]["gender"] <= 1
    sheets = sorted(path.name for path in (finished / "sheets").iterdir())
    assert sheets == ["step-0000004.png", "step-0000007.png"]
    assert read_image(finished / "sheets" / sheets[0]).shape[2] == 3
    report = (finished / "report.md").read_text()
    assert "7 steps" in report
    assert "| age |" in report


def test_a_finished_run_is_not_trained_again(weights: Path, finished: Path) -> None:
    before = (finished / "cdfnet.safetensors").stat().st_mtime_ns
    SAID.clear()
    assert train(weights / "whole.json", finished) == finished / "cdfnet-average.safetensors"
    assert "is finished" in SAID[-1]
    assert (finished / "cdfnet.safetensors").stat().st_mtime_ns == before


def test_an_interrupted_run_ends_as_the_unbroken_one(
    weights: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with stopped_at(4):
        train(weights / "whole.json", run)
    assert not (run / "cdfnet.safetensors").exists()
    # What a crash between two savings leaves: rows of steps that will be done again.
    with (run / "log.csv").open("a") as stream:
        stream.write("6,identity,total,1.0\n6,identity,lat")
    with (run / "validation.jsonl").open("a") as stream:
        stream.write('{"step": 6, "swaps": {}}\n')
    train(weights / "whole.json", run)
    assert steps_of(run) == [2, 4, 6]
    assert (run / "validation.jsonl").read_text() == (finished / "validation.jsonl").read_text()
    for name in ("cdfnet.safetensors", "cdfnet-average.safetensors"):
        assert (run / name).read_bytes() == (finished / name).read_bytes()


def test_another_configuration_needs_another_folder(weights: Path, finished: Path) -> None:
    changed = settings(seed=4)
    changed["training"] = {**changed["training"], "batch": 3}
    config = write(weights, "changed", changed)
    with pytest.raises(ConfigError, match=r"seed, training\.batch"):
        train(config, finished)
    other = write(weights, "report", settings(report={"log_every": 5}))
    assert train(other, finished).exists()  # what is reported may change


def test_the_same_settings_with_another_file_are_another_run(
    weights: Path, finished: Path, tmp_path: Path
) -> None:
    for path in weights.glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    (tmp_path / "clip.bin").write_bytes(b"another")
    with pytest.raises(ConfigError, match=r"files\.clip\.bytes, files\.clip\.sha256"):
        train(write(tmp_path, "whole", settings()), finished)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"dim": 8, "cond_dim": COND}}, "'model.dim' is 8.*set it to 16"),
        ({"model": {"dim": 16, "cond_dim": 9}}, f"'model.cond_dim' is 9.*set it to {COND}"),
        ({"generator": "none.pt"}, "'generator'.*does not exist"),
        ({"clip": {"name": "toy", "file": "none.pt"}}, r"'clip\.file'.*does not exist"),
        ({"training": {"keyword_shares": {"identity": 1.0, "hat": 1.0}}}, "has 'hat'"),
    ],
    ids=["dim", "cond_dim", "generator", "clip", "keyword"],
)
def test_what_does_not_fit_is_said_before_training(
    changes: dict[str, Any], words: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(write(weights, "wrong", settings(**changes)), tmp_path / "run")


def test_a_keyword_without_contents_is_refused(weights: Path, tmp_path: Path) -> None:
    table = [
        {"name": "identity", "contents": [], "template": None},
        {"name": "aura", "contents": [], "template": None},
    ]
    (weights / "table.json").write_text(json.dumps(table))
    training = {"steps": 2, "batch": 2, "keyword_shares": {"identity": 1.0, "aura": 1.0}}
    config = write(weights, "aura", settings(keywords="table.json", training=training))
    with pytest.raises(ConfigError, match="'aura' has no contents"):
        train(config, tmp_path / "run")


def test_a_device_that_is_not_there_is_refused(weights: Path, tmp_path: Path) -> None:
    for device in ("cuda:99", "tpu", "cuda:-1"):
        with pytest.raises(ConfigError, match=r"device|GPU"):
            lf.training.train(
                write(weights, "whole", settings()), tmp_path / "run", device=device, say=print
            )


def test_tensorboard_is_an_option_that_says_what_is_missing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    config = write(weights, "events", settings(report={"tensorboard": True}))
    with pytest.raises(MissingExtra, match="pip install tensorboard"):
        train(config, tmp_path / "run")


def test_the_random_draws_of_the_caller_do_not_matter(
    weights: Path, finished: Path, tmp_path: Path
) -> None:
    torch.manual_seed(12345)
    again = train(weights / "whole.json", tmp_path / "run")
    assert again.read_bytes() == (finished / again.name).read_bytes()
