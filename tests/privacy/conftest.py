"""A public codebook's geometry and faces to audit with, at the size that users get."""

from __future__ import annotations

import numpy as np
import pytest

NUM_GROUPS, DIM = 256, 512


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="session")
def means() -> np.ndarray:
    """(256, 512) unit group means."""
    return _unit(np.random.default_rng(1).standard_normal((NUM_GROUPS, DIM)))


@pytest.fixture(scope="session")
def faces(means: np.ndarray) -> np.ndarray:
    """(504, 512) unit features: centres, antipodes, differences of centres, random ones."""
    generator = np.random.default_rng(2)
    chosen = generator.permutation(NUM_GROUPS)[:126]
    centres = means[chosen]
    differences = centres - means[generator.permutation(NUM_GROUPS)[:126]]
    # A centre minus itself has no direction.
    differences[np.linalg.norm(differences, axis=1) == 0] = means[0] - means[1]
    random = generator.standard_normal((126, DIM))
    return _unit(np.concatenate([centres, -centres, differences, random]))


@pytest.fixture(scope="session")
def distances(means: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(504, 256) cosine distances of the faces to the groups."""
    return 1.0 - faces @ means.T


@pytest.fixture(scope="session")
def pairs(means: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Distances of 8 pairs of faces: four of a centre and its antipode, four random."""
    random = _unit(np.random.default_rng(3).standard_normal((8, DIM)))
    faces = [(means[j], -means[j]) for j in range(4)]
    faces += [(random[2 * i], random[2 * i + 1]) for i in range(4)]
    return [(1.0 - means @ a, 1.0 - means @ b) for a, b in faces]


@pytest.fixture
def insecure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow InsecureTestSampler for one test."""
    monkeypatch.setenv("LREORG_INSECURE_TEST", "1")
