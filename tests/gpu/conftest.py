"""Everything here needs a GPU: marked, and skipped with the reason where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = None
    if not torch.cuda.is_available():
        missing = pytest.mark.skip(reason=f"PyTorch {torch.__version__} finds no CUDA device")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)
            if missing is not None:
                item.add_marker(missing)
