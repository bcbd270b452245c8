"""``python -m bench.cpu`` from its arguments to its files, on a toy network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import lreorg_fast as lf
from bench.command import main
from bench.variants import PACKAGES, PEERS, choose, engines
from lreorg_fast.errors import ConfigError
from tolerances import tolerance

TOY = lf.CDFNetConfig(dim=32, cond_dim=16, num_blocks=2, growth=8)
QUICK = ("--rounds", "1", "--seconds", "1", "--threads", "1")


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    status = main([*QUICK, "--output", str(tmp_path / "made" / "toy"), *arguments], config=TOY)
    assert status == 0
    made: dict[str, Any] = json.loads((tmp_path / "made" / "toy.json").read_text())
    return made


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    # Without a built-in of every runtime: torch.compile alone takes a minute.
    names = "engine-bfloat16,eager-bfloat16,folded-eager-float32"
    made = run(folder, "--faces", "1,3", "--variants", names)
    made["markdown"] = (folder / "made" / "toy.md").read_text()
    return made


def test_times_every_variant_at_every_number_of_faces(record: dict[str, Any]) -> None:
    assert record["complete"]
    assert [(row["faces"], row["variant"]) for row in record["results"]] == [
        (faces, name)
        for faces in (1, 3)
        for name in ("engine-bfloat16", "eager-bfloat16", "folded-eager-float32")
    ]
    assert all(row["seconds"] and min(row["seconds"]) > 0 for row in record["results"])


def test_compares_every_variant_with_the_float64_reference(record: dict[str, Any]) -> None:
    errors = {row["variant"]: row["max_error"] for row in record["results"]}
    assert 0 < errors["folded-eager-float32"] < tolerance("cdfnet engine", "float32")
    assert errors["folded-eager-float32"] < errors["engine-bfloat16"] < errors["eager-bfloat16"]


def test_says_where_it_ran(record: dict[str, Any]) -> None:
    assert record["threads"] == 1
    assert record["machine"]["versions"]["torch"]
    assert record["variants"]["engine-bfloat16"]["facts"]["kernels"]


def test_puts_the_engine_beside_its_floor(record: dict[str, Any]) -> None:
    if record["floor"] is None:
        pytest.skip(record["floor_problem"])
    one, three = (row for row in record["results"] if row["variant"] == "engine-bfloat16")
    assert one["floor"]["memory"] == three["floor"]["memory"] > 0
    assert math.isclose(3 * one["floor"]["compute"], three["floor"]["compute"])
    assert all("floor" not in row for row in record["results"] if "eager" in row["variant"])


def test_the_table_has_every_number_of_faces(record: dict[str, Any]) -> None:
    assert "| variant | 1 face | 3 faces |" in record["markdown"]
    assert record["markdown"].count("| folded-eager-float32 |") == 3


def test_a_missing_peer_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "onnxruntime", ("no_such_package",))
    made = run(tmp_path, "--faces", "1", "--variants", "eager-float32,onnxruntime-*")
    problem = made["variants"]["onnxruntime-float32"]["problem"]
    assert problem == "not installed: pip install no_such_package"
    assert problem in (tmp_path / "made" / "toy.md").read_text()
    assert [row["variant"] for row in made["results"]] == ["eager-float32"]


def test_without_a_compiler_there_are_times_but_no_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    made = run(tmp_path, "--faces", "1", "--variants", "engine-float32")
    assert made["floor"] is None
    assert "no C++ compiler" in made["floor_problem"]
    assert "no-such-compiler" in capsys.readouterr().err
    assert made["results"][0]["seconds"]


def test_an_unknown_variant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--variants", "engine-float12"], config=TOY) == 2
    assert "'engine-float12'" in capsys.readouterr().err


def test_names_are_unique_and_patterns_choose() -> None:
    names = [variant.name for variant in (*engines(), *PEERS)]
    assert len(set(names)) == len(names)
    assert choose(["*"]) == [*engines(), *PEERS]
    assert [v.name for v in choose(["folded-eager-*"])] == [
        "folded-eager-float32",
        "folded-eager-bfloat16",
    ]
    assert choose(["!folded-*", "!engine-*"]) == [v for v in PEERS if v.network == "reference"]


@pytest.mark.parametrize("patterns", [["numpy-*"], ["!numpy-*"], ["eager-*", "!*-float32", "!*16"]])
def test_patterns_that_choose_nothing_are_refused(patterns: list[str]) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        choose(patterns)
