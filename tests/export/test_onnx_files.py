"""`lf.export.onnx`: what is written and what is refused; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx_runs import facts, features, pictures

import lreorg_fast as lf
from lreorg_fast.errors import BundleError, ConfigError, MissingExtra, OutputError
from lreorg_fast.export import onnx_files
from lreorg_fast.export.baking import baked_features
from lreorg_fast.export.onnx_stages import Networks
from lreorg_fast.weights.bundle import Bundle

JUDGES = ("recognizer", "detector")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file(toy: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    assert lf.export.onnx(toy, path, stage="encoder") == (path,)
    assert names(tmp_path) == ["x.onnx"]
    assert facts(onnx.load(path))["stage"] == "encoder"


def test_an_anonymizer_will_do(toy: Bundle, tmp_path: Path) -> None:
    anonymizer = lf.Anonymizer(toy)
    lf.export.onnx(anonymizer, tmp_path / "a.onnx", stage="generator")
    lf.export.onnx(toy, tmp_path / "b.onnx", stage="generator")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, ["analysis", "generator", "rendering", *JUDGES]),
        (
            {"hide": ("identity", "age", "color")},
            ["analysis", "generator", "key_age", "key_color", "rendering", *JUDGES],
        ),
        (
            {"hide": ("identity", "age"), "replace": ("identity",)},
            ["encoder", "generator", "key_age", "rendering", *JUDGES],
        ),
        (
            {"hide": ("identity", "age"), "replace": ("age",)},
            ["analysis", "generator", "rendering", *JUDGES],
        ),
        ({"replace": ("identity",)}, ["pipeline", "encoder", "generator", *JUDGES]),
        ({"stage": "cdfnet"}, ["cdfnet"]),
    ],
)
def test_a_folder_has_what_a_host_runs(
    toy: Bundle, tmp_path: Path, settings: dict[str, Any], files: list[str]
) -> None:
    dim = Networks(toy).dim
    baked = {name: np.ones(dim, np.float32) for name in settings.pop("replace", ())}
    written = lf.export.onnx(toy, tmp_path / "out", replace=baked, **settings)
    assert [path.name for path in written] == [*(f"{name}.onnx" for name in files), "export.json"]
    assert names(tmp_path / "out") == sorted(path.name for path in written)
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    given: set[str] = {"picture"}
    for entry, path in zip(described["files"], written, strict=False):
        content = path.read_bytes()
        assert entry["file"] == path.name
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
        model = onnx.load_from_string(content)
        for kind in ("inputs", "outputs"):
            values = getattr(model.graph, kind[:-1])
            assert [value["name"] for value in entry[kind]] == [value.name for value in values]
        # Every input is a file's output before it, or a replacement that is drawn from one.
        wanted = {value["name"] for value in entry["inputs"]}
        drawn = {name.replace("key_", "replace_") for name in given if name.startswith("key_")}
        if settings.get("stage") is None:
            assert wanted <= given | drawn
        given |= {value["name"] for value in entry["outputs"]}
    if settings.get("stage") is None:
        assert "rendered" in given


PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def test_the_host_of_the_page(
    demo: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code, as it stands there, lets faces through and stops what is no face."""
    code = next(block for block in PAGE.read_text().split("```python\n") if "def verified" in block)
    monkeypatch.chdir(tmp_path)
    lf.export.onnx(demo.bundle, "exported")
    faces = pictures(demo, 3).numpy()
    faces[1] = 0.3  # a plain colour
    given: dict[str, Any] = {"pictures": faces}
    exec(code.split("```")[0], given)
    released, made = given["released"], given["made"]
    assert released.tolist() == [True, False, True]
    assert np.isfinite(made).all()
    # A result that is the original is stopped by the recognizer.
    assert not given["verified"](faces, faces, given["latent"]).any()
    assert not given["verified"](faces, made * np.nan, given["latent"]).any()


def test_nothing_is_overwritten_unasked(toy: Bundle, tmp_path: Path) -> None:
    file, folder = tmp_path / "x.onnx", tmp_path / "out"
    for target in (file, folder):
        lf.export.onnx(toy, target, stage="generator")
        with pytest.raises(OutputError, match="exists already"):
            lf.export.onnx(toy, target, stage="encoder")
        lf.export.onnx(toy, target, stage="encoder", overwrite=True)
    assert facts(onnx.load(file))["stage"] == "encoder"
    assert names(folder) == ["encoder.onnx", "export.json"]


def test_a_folder_of_something_else_is_never_replaced(toy: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(OutputError, match="is not an export and is not replaced"):
        lf.export.onnx(toy, tmp_path / "mine", stage="generator", overwrite=True)
    assert names(tmp_path / "mine") == ["letter.txt"]


def test_an_export_that_fails_leaves_nothing(
    toy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lf.export.onnx(toy, tmp_path / "out")
    before = (tmp_path / "out" / "rendering.onnx").read_bytes()
    real = onnx_files.stage_model

    def last_fails(networks: Networks, options: Any) -> Any:
        if options.stage == "detector":
            raise MemoryError
        return real(networks, options)

    monkeypatch.setattr(onnx_files, "stage_model", last_fails)
    with pytest.raises(MemoryError):
        lf.export.onnx(toy, tmp_path / "out", overwrite=True, keep=())
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "rendering.onnx").read_bytes() == before


ONES = np.ones(16, np.float32)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stage": "nose"}, "stage is 'nose', but must be one of encoder, cdfnet"),
    ({"dtype": "int8"}, "dtype is 'int8', but must be one of float32, float16, bfloat16"),
    ({"form": "trt"}, "form is 'trt', but must be one of standard, plugin"),
    ({"opset": 17}, "opset is 17, but must be a number from 18 to 24"),
    ({"opset": "20"}, "opset is '20', but must be a number"),
    ({"opset": True}, "opset is True, but must be a number"),
    ({"dtype": "bfloat16", "opset": 21}, "opset is 21, but dtype 'bfloat16' needs 22"),
    ({"batch": 0}, "batch is 0, but must be a number of faces from 1"),
    ({"batch": True}, "batch is True"),
    ({"hide": ()}, "hide is empty"),
    ({"hide": ("age",), "keep": ("age",)}, "hide and keep both name age"),
    ({"hide": "identity"}, "hide"),
    ({"keep": ("nose",)}, "keep names 'nose', which is unknown"),
    ({"keep": (), "keep_input": True}, "keep_input has no effect: keep is empty"),
    ({"replace": {"age": ONES}}, "replace has a feature for 'age', which is not hidden"),
    ({"replace": {"identity": ONES[:3]}}, r"must be \(16,\) finite floats"),
    ({"replace": {"identity": ONES * np.nan}}, "finite floats"),
    ({"replace": {"identity": np.ones(16, int)}}, "finite floats"),
    ({"stage": "encoder", "form": "plugin"}, "form has no effect on stage 'encoder'"),
    ({"stage": "generator", "hide": ("age",)}, "hide has no effect on stage 'generator'"),
    ({"stage": "encoder", "replace": {"identity": ONES}}, "replace has no effect"),
    ({"stage": "analysis", "keep": ("age",)}, "keep has no effect on stage 'analysis'"),
    ({"stage": "key", "keep_input": True}, "keep_input has no effect on stage 'key'"),
    ({"stage": "analysis", "replace": {"identity": ONES}}, "key feature of 'identity' has no use"),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED)
def test_bad_settings_are_one_sentence(
    toy: Bundle, tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    for target in (tmp_path / "x.onnx", tmp_path / "out"):
        with pytest.raises(ConfigError, match=sentence) as caught:
            lf.export.onnx(toy, target, **settings)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["x.pt", "x.onnx.gz"])
def test_another_suffix_is_refused(toy: Bundle, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a file that ends in \.onnx, or a folder"):
        lf.export.onnx(toy, tmp_path / name, stage="encoder")


def test_a_missing_folder_is_refused(toy: Bundle, tmp_path: Path) -> None:
    for name in ("x.onnx", "x"):
        with pytest.raises(OutputError, match="does not exist"):
            lf.export.onnx(toy, tmp_path / "no" / name, stage="encoder")


def test_a_missing_package_names_the_extra(
    toy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lreorg_fast\[export\]'"):
        lf.export.onnx(toy, tmp_path / "x.onnx", stage="encoder")


def test_importing_it_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, lreorg_fast as lf; lf.export; "
        "sys.exit(3 if {'torch', 'onnx', 'onnxruntime'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_feature_may_be_a_tensor(toy: Bundle, tmp_path: Path) -> None:
    for name, feature in (("a", torch.ones(16)), ("b", ONES)):
        lf.export.onnx(
            toy, tmp_path / f"{name}.onnx", stage="cdfnet", replace={"identity": feature}
        )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


# ---- replacements by name


def test_baked_features(toy: Bundle, toys: Networks) -> None:
    found = baked_features(toy, ["identity=3", "age=old", "gender=neutral"])
    members = toys.tables["codebook.members"].numpy()
    assert np.allclose(found["identity"], members[3].mean(0))
    age, gender = (toys.tables[f"attribute.{name}.means"].numpy() for name in ("age", "gender"))
    assert np.allclose(found["age"], age[1])
    assert np.allclose(found["gender"], gender.mean(0))
    assert not np.allclose(found["identity"], features(toys, 1)[0])


@pytest.mark.parametrize(
    "text",
    ["identity", "nose=1", "identity=16", "identity=-1", "identity=x", "identity=", "age=ancient"],
)
def test_what_cannot_be_baked(toy: Bundle, text: str) -> None:
    with pytest.raises(ConfigError, match="bake is"):
        baked_features(toy, [text])


def test_a_keyword_is_baked_once(toy: Bundle) -> None:
    with pytest.raises(ConfigError, match="each NAME once"):
        baked_features(toy, ["age=old", "age=young"])


def test_tables_that_are_missing(toy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bundle, "tensors", lambda *_: {})
    with pytest.raises(BundleError, match=r"lack 'attribute\.age\.means'"):
        baked_features(toy, ["age=old"])
    with pytest.raises(BundleError, match=r"lack 'keyword\.identity'"):
        Networks(toy).constants(["identity"])
