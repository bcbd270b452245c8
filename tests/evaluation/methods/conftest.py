"""What the tests of methods share: bundles, avatars, noise."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import RESOLUTION, toy_bundle

from lreorg_fast.demo.figures import People, draw_people
from lreorg_fast.media.pictures import Picture
from lreorg_fast.pipeline import Anonymizer


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Anonymizer:
    return Anonymizer.load(toy_bundle(tmp_path_factory.mktemp("b") / "toy"))


@pytest.fixture(scope="module")
def demo() -> Anonymizer:
    return Anonymizer.load("demo")


@pytest.fixture(scope="module")
def people(demo: Anonymizer) -> People:
    return draw_people(48, 7, demo.resolution)


@pytest.fixture
def portraits() -> list[Picture]:
    random = np.random.default_rng(0)
    return list(random.integers(0, 256, (5, RESOLUTION, RESOLUTION, 3), dtype=np.uint8))


@pytest.fixture
def photograph() -> Picture:
    return np.random.default_rng(1).integers(0, 100, (120, 160, 3), dtype=np.uint8)
