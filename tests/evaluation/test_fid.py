"""FID: statistics in batches, both conventions, and the figures of the published programs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import published
import pytest
import torch
from golden import DATA
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation import FeatureStatistics, inception_statistics, prepare_pictures
from lreorg_fast.models import FidInception
from tolerances import tolerance

FULL_RANK = tolerance("frechet distance, full rank", "float64")
DEFICIENT = tolerance("frechet distance, rank deficient", "float64")
FRECHET = json.loads((DATA / "fid_frechet.json").read_text())["values"]


def gaussian(name: str, n: int, d: int, shift: float, mix: float) -> NDArray[np.float64]:
    """The inputs of fid_frechet.json."""
    noise = published.normal(name, (n, d)).astype(np.float64)
    turn = published.normal(f"{name}.mix", (d, d)).astype(np.float64) / np.sqrt(d)
    return noise @ (np.eye(d) + mix * turn) + shift


def statistics(*batches: NDArray[np.float64], space: str = "") -> FeatureStatistics:
    made = FeatureStatistics(batches[0].shape[1], space)
    for batch in batches:
        made.add(batch)
    return made


@pytest.mark.parametrize(
    ("name", "n", "d", "limit"),
    [
        ("n500_d64", 500, 64, FULL_RANK),
        ("n3000_d256", 3000, 256, FULL_RANK),
        ("n40_d64", 40, 64, DEFICIENT),
        ("n200_d2048", 200, 2048, DEFICIENT),
    ],
)
def test_the_distance_is_the_published_programs(name: str, n: int, d: int, limit: float) -> None:
    first = gaussian(f"fid.a.{d}", n, d, 0, 0.3)
    second = gaussian(f"fid.b.{d}", n, d, 0.25, 0.5)
    streamed = [statistics(*np.array_split(rows, 7)) for rows in (first, second)]
    distance = streamed[0].distance(streamed[1])
    for program in ("pytorch_fid", "torch_fidelity", "symmetric_eigh"):
        if FRECHET[name][program] is not None:
            assert distance == pytest.approx(FRECHET[name][program], rel=limit)


def test_the_public_function_takes_the_programs_matrices() -> None:
    first, second = gaussian("fid.a.64", 500, 64, 0, 0.3), gaussian("fid.b.64", 500, 64, 0.25, 0.5)
    distance = lf.evaluation.frechet_distance(
        first.mean(0), np.cov(first, rowvar=False), second.mean(0), np.cov(second, rowvar=False)
    )
    assert distance == pytest.approx(FRECHET["n500_d64"]["torch_fidelity"], rel=FULL_RANK)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    parts=st.integers(1, 5),
    d=st.integers(1, 6),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_batches_and_merges_are_the_same_as_all_at_once(
    seed: int, sizes: list[int], parts: int, d: int, offset: float
) -> None:
    generator = np.random.default_rng(seed)
    batches = [generator.normal(size=(n, d)) + offset for n in sizes]
    parts = min(parts, len(batches))
    merged = FeatureStatistics(d)
    for start in range(parts):
        merged.merge(statistics(*batches[start::parts]))
    rows = np.concatenate(batches)
    assert merged.n == len(rows)
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0), rtol=1e-14, atol=1e-14)
    wanted = np.atleast_2d(np.cov(rows, rowvar=False))
    # An offset of 1e6 leaves 1e-10 of a variance of 1; E[x^2] - E[x]^2 would leave 1e-4.
    np.testing.assert_allclose(merged.covariance, wanted, atol=1e-9 if offset else 1e-13)
    assert (merged.covariance == merged.covariance.T).all()


def test_what_is_handed_out_is_not_what_is_kept() -> None:
    made = statistics(np.eye(3))
    made.mean.fill(7)
    made.covariance.fill(7)
    assert made.mean == pytest.approx([1 / 3] * 3)
    assert made.distance(statistics(np.eye(3))) == pytest.approx(0, abs=1e-12)


def test_merging_nothing_changes_nothing() -> None:
    made = statistics(np.eye(3))
    made.merge(FeatureStatistics(3))
    assert made.n == 3
    empty = FeatureStatistics(3)
    empty.merge(FeatureStatistics(3))
    with pytest.raises(ConfigError, match="hold 0 pictures"):
        _ = empty.mean


def test_too_few_pictures() -> None:
    one = statistics(np.zeros((1, 3)))
    assert one.mean.tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="hold 1 pictures and need at least 2"):
        _ = one.covariance
    with pytest.raises(ConfigError, match="need at least 2"):
        statistics(np.eye(3)).distance(one)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 4)), "4 dimensions"),
        (np.zeros(3), "2 axes"),
        (np.zeros((0, 3)), "at least one value"),
        (np.full((2, 3), np.nan), "NaN or infinity"),
        (np.full((2, 3), np.inf), "NaN or infinity"),
    ],
)
def test_refused_features_leave_no_trace(features: Any, message: str) -> None:
    made = statistics(np.eye(3))
    with pytest.raises(ConfigError, match=message):
        made.add(features)
    assert made.n == 3
    assert made.mean == pytest.approx([1 / 3] * 3)


def test_conventions_and_networks_are_not_mixed() -> None:
    first = statistics(np.eye(3), space="inception-2048 pytorch-fid")
    second = statistics(np.eye(3), space="inception-2048 torch-fidelity")
    for call in (first.distance, first.merge):
        with pytest.raises(ConfigError, match=r"pytorch-fid.*torch-fidelity"):
            call(second)
        with pytest.raises(ConfigError, match="do not belong together"):
            call(FeatureStatistics(4, first.space))
    with pytest.raises(ConfigError, match="at least 1"):
        FeatureStatistics(0)


# --- pictures -----------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["pytorch-fid", "torch-fidelity"])
def test_a_constant_picture_stays_constant(convention: str) -> None:
    levels = torch.tensor([0, 128, 255], dtype=torch.uint8)
    x = prepare_pictures(levels.view(1, 3, 1, 1).expand(2, 3, 7, 450), convention)
    assert x.shape == (2, 3, 299, 299)
    assert x.dtype == torch.float32
    scale, shift = {"pytorch-fid": (2 / 255, -1.0), "torch-fidelity": (1 / 128, -1.0)}[convention]
    wanted = (levels * scale + shift).view(1, 3, 1, 1)
    assert torch.allclose(x, wanted.expand_as(x), atol=1e-6)


def test_tensorflows_pixels_lie_at_corners() -> None:
    """Enlarged from 2 columns: output i lies at 2 i / 299, and beyond the last all is the last."""
    columns = torch.tensor([28, 228], dtype=torch.uint8).expand(1, 3, 2, 2)
    position = torch.arange(299) * (2 / 299)
    row = (28 + 200 * position.clamp(max=1) - 128) / 128
    x = prepare_pictures(columns, "torch-fidelity")
    assert torch.allclose(x, row.expand_as(x), atol=1e-5)
    turned = prepare_pictures(columns.mT.contiguous(), "torch-fidelity")
    assert torch.equal(turned, x.mT)


def test_bytes_and_floats_are_the_same_to_pytorch_fid() -> None:
    pictures = torch.from_numpy(published.photo("photo.bytes", 40, 30)).permute(2, 0, 1)[None]
    first = prepare_pictures(pictures, "pytorch-fid")
    assert torch.equal(first, prepare_pictures(pictures.float() / 255, "pytorch-fid"))


@pytest.mark.parametrize(
    ("pictures", "convention", "message"),
    [
        (torch.zeros(1, 3, 8, 8), "fid", "'fid' is unknown"),
        (torch.zeros(1, 3, 8, 8), "torch-fidelity", "takes uint8"),
        (torch.full((1, 3, 8, 8), -0.5), "pytorch-fid", r"outside of \[0, 1\]"),
        (torch.full((1, 3, 8, 8), torch.nan), "pytorch-fid", r"outside of \[0, 1\]"),
        (torch.full((1, 3, 8, 8), 200, dtype=torch.int32), "pytorch-fid", r"outside of \[0, 1\]"),
        (torch.zeros(1, 8, 8, 3), "pytorch-fid", "shape"),
        (torch.zeros(3, 8, 8), "pytorch-fid", "shape"),
        (torch.zeros(0, 3, 8, 8), "pytorch-fid", "shape"),
        (torch.zeros(1, 3, 0, 8), "pytorch-fid", "shape"),
    ],
)
def test_pictures_are_refused(pictures: Tensor, convention: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_pictures(pictures, convention)


def test_statistics_of_pictures_are_those_of_their_features() -> None:
    torch.manual_seed(0)
    network = FidInception().eval()
    pictures = torch.randint(0, 256, (5, 3, 30, 40), dtype=torch.uint8)
    made = inception_statistics(network, iter(pictures.split(2)), "pytorch-fid", length=64)
    with torch.no_grad():
        features = network.features(prepare_pictures(pictures, "pytorch-fid"), 64).double().numpy()
    assert (made.n, made.length, made.space) == (5, 64, "inception-64 pytorch-fid")
    np.testing.assert_allclose(made.mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(made.covariance, np.cov(features, rowvar=False), atol=1e-6)
