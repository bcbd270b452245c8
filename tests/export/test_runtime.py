"""`Anonymizer(runtime="onnx")`: the same faces, the same draws, the same refusals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx_runs import distance, pictures

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.export import runtime
from lreorg_fast.export.onnx_stages import Networks
from lreorg_fast.models.pixels import to_pictures
from lreorg_fast.pipeline import FILL_COLOUR
from lreorg_fast.privacy import InsecureTestSampler, Ledger
from lreorg_fast.runtimes import Request, start
from lreorg_fast.weights.bundle import Bundle
from tolerances import tolerance


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], InsecureTestSampler]:
    monkeypatch.setenv("LREORG_INSECURE_TEST", "1")
    return lambda: InsecureTestSampler(3)


@pytest.fixture
def toy_onnx(toy: Bundle) -> lf.Anonymizer:
    return lf.Anonymizer(toy, runtime="onnx")


@pytest.fixture
def noise() -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]


def is_filled(picture: np.ndarray) -> bool:
    return bool((picture == np.array(FILL_COLOUR, np.uint8)).all())


@pytest.mark.parametrize(("precision", "most"), [("float32", 1), ("float16", 8)])
def test_the_same_faces_as_in_torch(
    demo: Networks, seeded: Callable[[], InsecureTestSampler], precision: str, most: int
) -> None:
    faces = to_pictures(pictures(demo, 3))
    settings: dict[str, Any] = {"hide": ["identity", "makeup"], "keep": ["gender", "age"]}
    plain = lf.Anonymizer.load("demo", precision="float32", dtype="float32")
    other = lf.Anonymizer.load("demo", precision=precision, dtype="float32", runtime="onnx")
    assert (other.runtime, other.precision) == ("onnx", precision)
    wanted = plain(faces, sampler=seeded(), **settings)
    found = other(faces, sampler=seeded(), **settings)
    for a, b in zip(wanted.faces, found.faces, strict=True):
        assert (a.status, a.epsilon, a.mechanism) == (b.status, b.epsilon, b.mechanism)
    assert not wanted.filled
    for a, b in zip(wanted.images, found.images, strict=True):
        assert np.abs(a.astype(int) - b).max() <= most


def test_single_passes_and_reversal(demo: Networks) -> None:
    plain = lf.Anonymizer.load("demo", precision="float32", dtype="float32")
    other = lf.Anonymizer.load("demo", dtype="float32", runtime="onnx")
    s = torch.randn(2, demo.rows, demo.dim)
    f, r = other.engine.disentangle(s, "age")
    limit = tolerance("cdfnet engine", "float32")
    for found, wanted in zip((f, r), plain.engine.disentangle(s, "age"), strict=True):
        assert distance(found, wanted, relative=False) < limit
    for found, wanted in zip(
        other.engine.fuse(f, r, "age"), plain.engine.fuse(f, r, "age"), strict=True
    ):
        assert distance(found, wanted, relative=False) < limit
    (picture,) = to_pictures(pictures(demo, 1))
    made = other(picture, recovery=True)
    assert made.faces[0].recovery_key is not None
    restored = other.restore(made.image, made.faces[0].recovery_key)
    back = plain.restore(made.image, made.faces[0].recovery_key)
    assert np.abs(restored.astype(int) - back).max() <= 1


@pytest.mark.parametrize("dtype", runtime.DTYPES)
def test_the_dtype_of_the_matrices(demo: Networks, dtype: str) -> None:
    engine = lf.Anonymizer.load("demo", dtype=dtype, runtime="onnx").engine
    exact = lf.Anonymizer.load("demo", dtype="float32", runtime="onnx").engine
    s = torch.randn(1, demo.rows, demo.dim)
    found, wanted = engine.disentangle(s, "age")[0], exact.disentangle(s, "age")[0]
    assert (distance(found, wanted) > 1e-6) == (dtype != "float32")
    assert distance(found, wanted) < 1e-2


def test_what_runs_is_said(toy_onnx: lf.Anonymizer) -> None:
    info = toy_onnx.engine.build_info()
    assert info["backend"] == "onnx"
    assert info["runtime"].startswith("onnxruntime 1.")
    assert info["provider"] == "CPUExecutionProvider"


def test_other_keywords_share_the_network(toy_onnx: lf.Anonymizer) -> None:
    age = torch.randn(8)
    engine = toy_onnx.engine.with_keywords({"nose": age})
    s = torch.randn(2, 8, 16)
    assert engine.keywords[-1] == "nose"
    assert distance(engine.disentangle(s, "age")[0], toy_onnx.engine.disentangle(s, "age")[0]) == 0
    assert distance(engine.disentangle(s, "nose")[0], engine.disentangle(s, "age")[0]) > 1e-3


def test_a_batch_of_any_size(toy_onnx: lf.Anonymizer, noise: list[np.ndarray]) -> None:
    assert [face.index for face in toy_onnx(noise).faces] == [0, 1, 2]
    with pytest.raises(ConfigError, match="the encoder takes pictures of shape"):
        toy_onnx.encoder(torch.zeros(1, 3, 16, 16))
    assert toy_onnx.encoder(torch.zeros(0, 3, 32, 32)).shape == (0, 8, 16)
    assert toy_onnx.generator.synthesis(torch.zeros(2, 16)).shape == (2, 3, 32, 32)


# ---- fail closed


@pytest.mark.parametrize("part", ["encoder", "generator"])
def test_a_session_that_fails_fills_the_face(
    toy_onnx: lf.Anonymizer,
    noise: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("onnxruntime: out of memory")

    monkeypatch.setattr(getattr(toy_onnx, part), "_session", fails)
    result = toy_onnx(noise)
    assert all(is_filled(image) for image in result.images)
    assert {face.reason for face in result.faces} == {"an error in the pipeline (RuntimeError)"}


@pytest.mark.parametrize(("part", "filled"), [("encoder", [1]), ("generator", [1, 2])])
def test_nan_fills_its_face_only(
    toy_onnx: lf.Anonymizer,
    noise: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    filled: list[int],
) -> None:
    """The second face of every call is spoiled; the generator's second call has the two faces
    that came back from the first."""
    network = getattr(toy_onnx, part)
    session = network._session

    def spoiled(*inputs: torch.Tensor) -> list[torch.Tensor]:
        (made,) = session(*inputs)
        made[1].view(-1)[5] = float("nan")
        return [made]

    monkeypatch.setattr(network, "_session", spoiled)
    result = toy_onnx(noise)
    assert [face.index for face in result.filled] == filled
    assert [is_filled(image) for image in result.images] == [i in filled for i in range(3)]


def test_nan_in_the_reorganization_fills(
    toy_onnx: lf.Anonymizer, noise: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runtime.Session.__call__

    def spoiled(self: runtime.Session, *inputs: torch.Tensor) -> list[torch.Tensor]:
        made = call(self, *inputs)
        return [x * float("nan") if x.shape[1:] == (1, 16) else x for x in made]

    monkeypatch.setattr(runtime.Session, "__call__", spoiled)
    result = toy_onnx(noise[:1])
    assert is_filled(result.images[0])
    assert result.faces[0].reason == "an error in the pipeline (PrivacyError)"


def test_the_ledger_decides(toy: Bundle, noise: list[np.ndarray]) -> None:
    anonymizer = lf.Anonymizer(toy, runtime="onnx", ledger=Ledger(0.5))
    result = anonymizer(noise[0], epsilon=1.0)
    assert is_filled(result.image)


def test_verification_decides(toy: Bundle, noise: list[np.ndarray]) -> None:
    anonymizer = lf.Anonymizer(toy, runtime="onnx")
    anonymizer.verification._threshold = -2.0
    result = anonymizer(noise[0])
    assert is_filled(result.image)
    assert result.faces[0].reason == "the result still resembles the original"


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"runtime": "tflite"}, "runtime is 'tflite', but must be one of torch, onnx"),
        ({"backend": "cpu"}, "backend 'cpu' has no effect with runtime 'onnx'"),
        ({"dtype": "int8"}, "dtype is 'int8', but with runtime 'onnx' must be one of bfloat16"),
        ({"precision": "bfloat16"}, "precision is 'bfloat16', but with runtime 'onnx' must be"),
    ],
)
def test_what_it_does_not_offer(toy: Bundle, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        lf.Anonymizer(toy, **{"runtime": "onnx", **settings})


def test_another_device(toy: Bundle) -> None:
    """Without a GPU at hand the pipeline would refuse the device before."""
    request = Request(toy, {}, torch.device("cuda", 0), "auto", "bfloat16", "auto")
    with pytest.raises(ConfigError, match="device is 'cuda:0', but runtime 'onnx' runs on the CPU"):
        start("onnx", request)


def test_onnxruntime_is_missing(toy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lreorg_fast\[export\]'"):
        lf.Anonymizer(toy, runtime="onnx")
