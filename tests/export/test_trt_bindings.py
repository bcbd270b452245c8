"""The names that are used of TensorRT, and the plugin library, against the real Python bindings."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trt_fake
import trt_standin

import lreorg_fast.export
from lreorg_fast.export import trt_plugin
from lreorg_fast.export.trt_api import _LEVELS, LEAST

NAMES: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parents[1] / "trt_names.json").read_text()
)
SOURCES = sorted(Path(lreorg_fast.export.__file__).parent.glob("trt*.py"))


def bindings() -> list[Path | None]:
    """The installed ones (None) and those that the environment names."""
    installed = [None] if trt_standin.installed_bindings() else []
    return [*installed, *trt_standin.folders_of(trt_standin.BINDINGS_VARIABLE)]


@pytest.fixture(scope="module", params=bindings(), ids=str)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the real bindings say; their release line decides what is built for them."""
    folder = tmp_path_factory.mktemp("standin")
    for major in (10, 11):
        trt_standin.build_libraries(folder, None, major)
    version = trt_standin.probe(folder, request.param, None)["version"]
    major = int(version.split(".")[0])
    (folder / f"libnvinfer.so.{21 - major}").unlink()  # one TensorRT for a process
    plugin = trt_standin.build_plugin(folder, None, major)
    asked = trt_standin.probe(folder, request.param, plugin, LREORG_TENSORRT_REGISTER="1")
    found = trt_standin.probe(folder, request.param, plugin)
    return found | {"asked_to_register": asked["plugin"]}


def used_names() -> Iterator[tuple[str, str]]:
    """(class, member) of every chain trt.X or trt.X.Y in lreorg_fast/export/trt*.py."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            of = node.value
            if isinstance(of, ast.Name) and of.id == "trt" and node.attr != "__version__":
                yield "", node.attr
            elif isinstance(of, ast.Attribute) and getattr(of.value, "id", None) == "trt":
                yield of.attr, node.attr


def all_used() -> set[tuple[str, str]]:
    """With the members that the pretended TensorRT has, which stand for calls on its objects."""
    chains = {(of, name) for of, name in used_names() if of != "ILogger"}
    return chains | trt_fake.members()


def lacking(names: dict[str, list[str]]) -> list[tuple[str, str]]:
    return sorted((of, name) for of, name in all_used() if name not in names[of])


def test_the_bindings_have_every_name_that_is_used(found: dict[str, Any]) -> None:
    assert lacking(found["names"]) == []
    assert set(found["severities"]) == set(_LEVELS)


def test_the_kept_names_are_those_of_the_bindings(found: dict[str, Any]) -> None:
    if found["version"] not in NAMES:
        pytest.skip(f"trt_names.json does not list {found['version']}")
    assert NAMES[found["version"]] == found["names"]


@pytest.mark.parametrize("version", NAMES)
def test_every_release_line_has_every_name_that_is_used(version: str) -> None:
    assert lacking(NAMES[version]) == []


def test_the_kept_names_are_of_the_oldest_and_of_both_lines() -> None:
    versions = {tuple(map(int, version.split(".")[:2])) for version in NAMES}
    assert LEAST in versions
    assert {major for major, _ in versions} == {10, 11}


def test_the_check_sees_what_only_one_line_has() -> None:
    (old,) = (names for version, names in NAMES.items() if version.startswith("10.9."))
    (new,) = (names for version, names in NAMES.items() if version.startswith("11.4."))
    assert "FP16" in old["BuilderFlag"]
    assert "FP16" not in new["BuilderFlag"]


def test_flags_and_failures_are_as_expected(found: dict[str, Any]) -> None:
    major = int(found["version"].split(".")[0])
    assert found["strongly_typed"] == (2 if major == 10 else 1)
    # trt_api.made turns both into a sentence.
    assert found["without_driver"] == ["TypeError", "TypeError"]


def test_the_bindings_load_and_drive_the_plugin(found: dict[str, Any]) -> None:
    plugin = found["plugin"]
    node = [trt_plugin.NAME, trt_plugin.VERSION, trt_plugin.NAMESPACE]
    assert plugin["loaded"]
    assert plugin["unknown"]
    assert plugin["creator"] == node
    assert plugin["core"] == node
    assert plugin["fields"] == [["clamp", "FLOAT32", 1], ["program", "INT32", 0]]
    assert plugin["outputs"] == 1
    assert plugin["format_combination_limit"] == 100
    assert plugin["at_run_time"]
    assert plugin["interfaces"] == [
        ["PLUGIN CREATOR_V3ONE", 1, 0],
        ["PLUGIN", 1, 0],
        ["PLUGIN_V3ONE_CORE", 1, 0],
        ["PLUGIN_V3ONE_BUILD", 1, 0],
        ["PLUGIN_V3ONE_RUNTIME", 1, 0],
    ]


def test_the_library_registers_itself_only_where_it_is_asked(found: dict[str, Any]) -> None:
    """For hosts that open it and nothing else; otherwise builders would find it unasked."""
    assert not found["plugin"]["registered_when_opened"]
    assert found["asked_to_register"]["registered_when_opened"]


def test_what_the_plugin_refuses_reaches_the_logger(found: dict[str, Any]) -> None:
    plugin = found["plugin"]
    assert "'program' is missing" in plugin["without_program"]
    assert "longer than it says" in plugin["damaged"]
    assert "must be positive" in plugin["clamp"]
    for name in ("without_program", "damaged", "clamp"):
        assert plugin[name].startswith("none: LreorgReorganize: ")


def test_bindings_are_there_to_be_asked() -> None:
    if not bindings():
        pytest.skip("tensorrt-cu13-bindings is not installed; it is in the extra dev on Linux")
