"""Each published detector's outputs, made by hand for a known face, which must come out again.

The graphs are the form of the real files; the formulas are checked the other way round, from a face
to the numbers that stand for it. The published code's own results: test_published_decoders.py.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from detectors import constant_onnx

from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.faces.decoders import DECODERS
from lreorg_fast.faces.networks import open_network

SIZE = 64  # of the tile: 8, 4 and 2 cells at strides 8, 16 and 32
BOX = np.array([18.0, 13.0, 35.0, 37.0])
POINTS = np.array([[22.0, 20.0], [30.0, 20.5], [26.0, 25.0], [23.0, 31.0], [29.5, 32.0]])
CENTRE, SIDES = (BOX[:2] + BOX[2:]) / 2, BOX[2:] - BOX[:2]


def centerface() -> dict[str, np.ndarray]:
    cells = SIZE // 4
    heat = np.full((1, 1, cells, cells), 0.01)
    scale, offset = np.zeros((1, 2, cells, cells)), np.zeros((1, 2, cells, cells))
    points = np.zeros((1, 10, cells, cells))
    column, row = (CENTRE // 4).astype(int)
    heat[0, 0, row, column] = 0.8
    scale[0, :, row, column] = np.log(SIDES[::-1] / 4)  # height, width
    offset[0, :, row, column] = (CENTRE / 4 - 0.5 - (column, row))[::-1]
    points[0, :, row, column] = ((POINTS - BOX[:2]) / SIDES)[:, ::-1].ravel()  # y, x
    return {"537": heat, "538": scale, "539": offset, "540": points}


def yunet() -> dict[str, np.ndarray]:
    outputs = {}
    for stride in (8, 16, 32):
        count = (SIZE // stride) ** 2
        for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs[f"{part}_{stride}"] = np.zeros((1, count, width))
    column, row = 1, 1
    at, index = np.array([column, row]), row * (SIZE // 16) + column
    outputs["cls_16"][0, index], outputs["obj_16"][0, index] = 0.8, 0.8
    outputs["bbox_16"][0, index] = [*(CENTRE / 16 - at), *np.log(SIDES / 16)]
    outputs["kps_16"][0, index] = (POINTS / 16 - at).ravel()
    order = [f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    return {name: outputs[name] for name in order}


def scrfd(strides: tuple[int, ...] = (8, 16, 32), anchors: int = 2) -> dict[str, np.ndarray]:
    outputs: dict[str, np.ndarray] = {}
    for part, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in strides:
            count = math.ceil(SIZE / stride) ** 2 * anchors
            outputs[f"{part}_{stride}"] = np.zeros((count, width))
    corner, index = np.array([24.0, 24.0]), (3 * 8 + 3) * anchors + anchors - 1
    outputs["score_8"][index] = 0.8
    outputs["bbox_8"][index] = [*(corner - BOX[:2]) / 8, *(BOX[2:] - corner) / 8]
    outputs["kps_8"][index] = ((POINTS - corner) / 8).ravel()
    return outputs


def retinaface() -> dict[str, np.ndarray]:
    count = 2 * (8 * 8 + 4 * 4 + 2 * 2)
    box, scores, points = np.zeros((1, count, 4)), np.zeros((1, count, 2)), np.zeros((1, count, 10))
    scores[..., 0] = 1
    index, prior, at = 2 * (3 * 8 + 3) + 1, 32, np.array([28.0, 28.0])  # the larger of the two
    scores[0, index] = [0.2, 0.8]
    box[0, index] = [*(CENTRE - at) / prior / 0.1, *np.log(SIDES / prior) / 0.2]
    points[0, index] = ((POINTS - at) / prior / 0.1).ravel()
    return {"loc": box, "conf": scores, "landms": points}


FILES = {
    "centerface": centerface,
    "yunet": yunet,
    "scrfd": scrfd,
    "scrfd with five levels": lambda: scrfd((8, 16, 32, 64, 128), 1),
    "retinaface": retinaface,
}


def black(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_the_face_is_where_it_was_put(tmp_path: Path, name: str, named: bool) -> None:
    path = constant_onnx(tmp_path / "any name.onnx", FILES[name]())
    kind = name.split(" ")[0]
    network = open_network(path, kind if named else None)
    assert network.kind == kind
    found = network(black(), 0.5)
    assert found.scores == pytest.approx([0.8], abs=1e-6)
    np.testing.assert_allclose(found.boxes[0], BOX, atol=1e-4)
    np.testing.assert_allclose(found.points[0], POINTS, atol=1e-4)
    assert len(network(black(), 0.85).scores) == 0


@pytest.mark.parametrize("name", [n for n in FILES if n != "centerface"])
def test_a_batch_of_one_may_be_left_out(tmp_path: Path, name: str) -> None:
    outputs = FILES[name]()
    turned = {k: v[0] if v.ndim == 3 else v[None] for k, v in outputs.items()}
    found = open_network(constant_onnx(tmp_path / "d.onnx", turned))(black(), 0.5)
    np.testing.assert_allclose(found.boxes[0], BOX, atol=1e-4)


def test_what_each_network_sees() -> None:
    tile = np.array([[[255, 128, 0]]], dtype=np.uint8)
    seen = {kind: decoder.prepare(tile)[0, :, 0, 0].tolist() for kind, decoder in DECODERS.items()}
    assert seen["centerface"] == [255, 128, 0]
    assert seen["yunet"] == [0, 128, 255]
    assert seen["scrfd"] == pytest.approx([127.5 / 128, 0.5 / 128, -127.5 / 128])
    assert seen["retinaface"] == [-104, 11, 132]
    assert all(decoder.prepare(tile).dtype == np.float32 for decoder in DECODERS.values())


def test_only_centerface_may_forget_the_size_of_its_file(tmp_path: Path) -> None:
    sized = open_network(constant_onnx(tmp_path / "y.onnx", yunet()))
    assert sized.size == (64, 64)
    free = open_network(constant_onnx(tmp_path / "s.onnx", scrfd(), ("height", "width")))
    assert free.size is None
    assert open_network(constant_onnx(tmp_path / "c.onnx", centerface())).size is None


@pytest.mark.parametrize("kind", ["yunet", "scrfd", "retinaface", "centerface"])
def test_outputs_of_another_kind_are_refused(tmp_path: Path, kind: str) -> None:
    other = "retinaface" if kind != "retinaface" else "yunet"
    network = open_network(constant_onnx(tmp_path / "d.onnx", FILES[other]()), kind)
    with pytest.raises(CheckpointError, match=r"kind|kps"):
        network(black(), 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
@pytest.mark.parametrize("name", ["centerface", "scrfd", "retinaface"])
def test_no_number_is_no_silence(tmp_path: Path, name: str, value: float) -> None:
    """A NaN is below every threshold: it must not look like a picture without faces."""
    outputs = FILES[name]()
    scores = {"centerface": "537", "scrfd": "score_8", "retinaface": "conf"}[name]
    outputs[scores][...] = value
    with pytest.raises(CheckpointError, match="damaged"):
        open_network(constant_onnx(tmp_path / "d.onnx", outputs))(black(), 0.5)


def test_unknown_outputs_ask_for_the_kind(tmp_path: Path) -> None:
    path = constant_onnx(tmp_path / "d.onnx", {"x": np.zeros((1, 5))})
    with pytest.raises(CheckpointError, match="no known detector"):
        open_network(path)
    with pytest.raises(ConfigError, match="centerface, yunet, scrfd, retinaface"):
        open_network(path, "mtcnn")
