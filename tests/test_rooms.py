"""The rooms of CONTRIBUTING.md: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lreorg_fast

PACKAGE = Path(lreorg_fast.__file__).parent

BOTTOM = {"errors", "log", "files", "keywords", "__version__"}
MIDDLE = BOTTOM | {"cdfnet", "models", "media", "faces", "privacy", "weights"}
MAY_IMPORT = {
    "errors": set(),
    "log": set(),
    "files": {"errors"},
    "keywords": {"errors", "files"},
    "cdfnet": BOTTOM | {"_native", "kernels"},
    "models": BOTTOM | {"cdfnet", "_native"},
    "media": BOTTOM,
    "privacy": BOTTOM | {"cdfnet"},
    "faces": BOTTOM | {"media", "models"},
    "weights": BOTTOM | {"cdfnet", "models"},
    "scene": MIDDLE | {"pipeline", "settings", "result", "verification"},
    "live": MIDDLE | {"scene"},
    "batch": MIDDLE | {"pipeline", "result", "scene", "sealing", "settings", "verification"},
    "video": MIDDLE | {"pipeline", "scene", "batch", "verification"},
    "training": MIDDLE,
    "evaluation": MIDDLE | {"pipeline", "result", "settings", "scene", "video", "audit"},
    "export": MIDDLE | {"verification"},
    "audit": MIDDLE | {"demo", "pipeline"},
}


def imported(path: Path) -> Iterator[str]:
    """Absolute names of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full, so that rooms are visible"
            yield node.module or ""
            if node.module == "lreorg_fast":
                yield from (f"lreorg_fast.{alias.name}" for alias in node.names)


def sources(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_point_down(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    for path in (path for path in sources(room) if path.exists()):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "lreorg_fast" and len(parts) > 1:
                assert parts[1] in allowed, f"{path.name} of '{room}' imports {name}"


def test_every_folder_has_its_arrows() -> None:
    top = {"avatars", "cli", "data", "demo"}  # above everything, or no code
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders <= set(MAY_IMPORT) | top | {"kernels"}


def test_nothing_imports_the_command_the_benchmarks_or_the_tests() -> None:
    for path in PACKAGE.rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in ("bench", "tests", "csrc"), f"{path} imports {name}"
            if "cli" not in path.parts and path.name != "__main__.py":
                assert not name.startswith("lreorg_fast.cli"), f"{path} imports {name}"


def test_the_reference_needs_torch_only() -> None:
    for name in imported(PACKAGE / "cdfnet" / "reference.py"):
        top = name.split(".")[0]
        own = name in ("lreorg_fast.cdfnet.config", "lreorg_fast.errors")
        assert own or top == "torch" or top in sys.stdlib_module_names, name


@pytest.mark.parametrize(
    "module",
    ["", ".media", ".faces", ".scene", ".video", ".live", ".evaluation", ".privacy", ".keywords"],
)
def test_torch_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, lreorg_fast{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
