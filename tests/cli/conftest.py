"""What the tests of the command share: a toy bundle, faces, and a way to run it in-process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import RESOLUTION, toy_bundle
from click.testing import CliRunner, Result
from PIL import Image

from lreorg_fast.cli.app import lreorg

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def run() -> Run:
    """``run("anonymize", path, ...)`` as the shell would: exit code, stdout and stderr."""

    def invoke(*arguments: object, **environment: str) -> Result:
        # COLUMNS: help is wrapped at the terminal's width.
        result = CliRunner().invoke(
            lreorg, [str(a) for a in arguments], env={"COLUMNS": "100", **environment}
        )
        # Whatever happens, the command ends by itself.
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


@pytest.fixture
def face(tmp_path: Path) -> Path:
    """One readable picture of the toy bundle's size, so an aligned face: in/face.png."""
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(5).integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "face.png")
    return tmp_path / "in" / "face.png"
