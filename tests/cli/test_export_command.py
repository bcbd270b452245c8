"""`lreorg export onnx`: every option does what it says, and errors are sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from bundles import PERMISSIVE
from click.testing import Result

Run = Callable[..., Result]


def model(path: Path) -> Any:
    return onnx.load(path)


def facts(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in model(path).metadata_props}


def inputs(path: Path) -> list[str]:
    return [value.name for value in model(path).graph.input]


@pytest.fixture
def export(run: Run, bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """``export("--stage", "encoder")``: the file that came out."""
    number = iter(range(9))

    def write(*options: object) -> Path:
        path = tmp_path / f"{next(number)}.onnx"
        result = run("export", "onnx", bundle, "-o", path, *options)
        assert (result.exit_code, result.stdout) == (0, f"{path}\n"), result.stderr
        return path

    return write


def test_a_folder_with_a_manifest(run: Run, bundle: Path, tmp_path: Path) -> None:
    result = run("export", "onnx", bundle, "-o", tmp_path / "out")
    assert result.exit_code == 0
    written = [Path(line).name for line in result.stdout.splitlines()]
    parts = ("analysis", "generator", "rendering", "recognizer", "detector")
    assert written == [*(f"{part}.onnx" for part in parts), "export.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(written)
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    assert [entry["file"] for entry in described["files"]] == written[:-1]
    assert described["limits"] == {name: PERMISSIVE[name] for name in described["limits"]}
    assert sorted(described["limits"]) == sorted(PERMISSIVE)


def test_stage(export: Callable[..., Path]) -> None:
    assert inputs(export("--stage", "generator")) == ["latent"]
    assert inputs(export("--stage", "encoder")) == ["picture"]
    assert inputs(export()) == ["picture", "replace_identity"]


def test_dtype(export: Callable[..., Path]) -> None:
    full, half = (
        export("--stage", "generator"),
        export("--stage", "generator", "--dtype", "float16"),
    )
    assert half.stat().st_size < 0.9 * full.stat().st_size  # the toy is mostly its structure
    assert facts(half)["dtype"] == "float16"


def test_form(export: Callable[..., Path]) -> None:
    plain, plugin = export("--stage", "cdfnet"), export("--stage", "cdfnet", "--form", "plugin")
    nodes = [{node.op_type for node in model(path).graph.node} for path in (plain, plugin)]
    assert "LreorgReorganize" not in nodes[0]
    assert "LreorgReorganize" in nodes[1]


def test_opset(export: Callable[..., Path]) -> None:
    paths = [export("--stage", "generator", *more) for more in ((), ("--opset", 18))]
    assert [model(path).opset_import[0].version for path in paths] == [20, 18]


def test_batch(export: Callable[..., Path]) -> None:
    paths = [export("--stage", "generator", *more) for more in ((), ("--batch", 3))]
    sizes = [model(path).graph.input[0].type.tensor_type.shape.dim[0] for path in paths]
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 3]


def test_hide_and_keep(export: Callable[..., Path]) -> None:
    path = export("--hide", "identity, age", "--keep", "gender")
    assert inputs(path) == ["picture", "replace_identity", "replace_age"]
    told = facts(path)
    assert (told["hide"], told["keep"]) == ('["identity", "age"]', '["gender"]')
    assert facts(export("--keep", "none"))["keep"] == "[]"


def test_bake(export: Callable[..., Path]) -> None:
    path = export("--hide", "identity,age", "--bake", "identity=2", "--bake", "age=old")
    assert inputs(path) == ["picture"]
    other = export("--hide", "identity,age", "--bake", "identity=3", "--bake", "age=old")
    first, second = (
        {tensor.name: tensor.raw_data for tensor in model(file).graph.initializer}
        for file in (path, other)
    )
    changed = [name for name in first if first[name] != second[name]]
    assert changed == ["replacement/identity"]


def test_keep_input(export: Callable[..., Path]) -> None:
    path = export("--keep-input", "--keep", "age,gender")
    assert inputs(path) == ["picture", "replace_identity", "keep"]
    assert model(path).graph.input[2].type.tensor_type.shape.dim[0].dim_value == 2


def test_force(run: Run, bundle: Path, tmp_path: Path) -> None:
    arguments = ("export", "onnx", bundle, "-o", tmp_path / "out", "--stage", "encoder")
    assert run(*arguments).exit_code == 0
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert run(*arguments, "--force").exit_code == 0


def test_json(run: Run, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    result = run("export", "onnx", bundle, "-o", path, "--stage", "encoder", "--json")
    assert json.loads(result.stdout) == [str(path)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--opset", 12), "opset is 12, but must be a number from 18 to 24"),
        (("--dtype", "int8"), "dtype is 'int8'"),
        (("--stage", "nose"), "stage is 'nose'"),
        (("--batch", -1), "batch is -1"),
        (("--bake", "identity=400"), "must be the number of a group, 0 to 15"),
        (("--bake", "age=old"), "'age', which is not hidden"),
        (("--stage", "encoder", "--keep", "age"), "keep has no effect on stage 'encoder'"),
    ],
)
def test_errors_are_sentences(
    run: Run, bundle: Path, tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    result = run("export", "onnx", bundle, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("lreorg: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_bundle(run: Run, tmp_path: Path) -> None:
    result = run("export", "onnx", tmp_path / "no", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "is not a bundle" in result.stderr
