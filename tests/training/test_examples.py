"""The example configurations are what the tool reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from lreorg_fast.training.config import read_config
from lreorg_fast.weights.registry import published_files

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "training").glob("*.json"))


def test_there_are_two() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_names_published_files(path: Path) -> None:
    config = read_config(path)
    assert set(config.files().values()) <= {entry.file for entry in published_files().values()}
