"""A clip, its truth, and the pipeline on tiny networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from stamped import Film

import lreorg_fast as lf
from lreorg_fast.media.video import VideoReader


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def anonymizer(bundle: Path) -> lf.Anonymizer:
    return lf.Anonymizer.load(bundle)


@pytest.fixture(scope="session")
def film() -> Film:
    return Film()


@pytest.fixture
def source(film: Film, tmp_path: Path) -> Path:
    return film.write(tmp_path / "in.mp4")


@pytest.fixture
def shown() -> Callable[[Path], list[np.ndarray]]:
    """All pictures of a video."""

    def pictures(path: Path) -> list[np.ndarray]:
        reader = VideoReader(path)
        return [frame.picture(reader.info.orientation) for frame in reader.frames()]

    return pictures
