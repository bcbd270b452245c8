"""The Frechet distance of two Gaussians, and how far it spreads between samples."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.figures import CONFIDENCE, Figure, Floats, finite


def frechet_distance(mu1: ArrayLike, cov1: ArrayLike, mu2: ArrayLike, cov2: ArrayLike) -> float:
    """Squared Frechet distance of two Gaussians (Dowson and Landau 1982; FID, Heusel et al. 2017).

    ``|mu1 - mu2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2))``. With covariance = L L^T the last
    trace is the sum of the singular values of ``L1^T L2``: no square root of a nearly singular
    product is taken, which is where implementations differ on few samples.

    Args:
        mu1, mu2: (d,) means.
        cov1, cov2: (d, d) symmetric positive semi-definite covariances (np.cov, n - 1).

    Returns:
        The distance, at least 0.

    Raises:
        ConfigError: shapes that do not fit, NaN or infinity, or a matrix that is not a covariance.
    """
    mean1, sigma1, mean2, sigma2 = _gaussians(mu1, cov1, mu2, cov2)
    cross = _factor("cov1", sigma1).T @ _factor("cov2", sigma2)
    overlap = float(np.linalg.svd(cross, compute_uv=False).sum()) if cross.size else 0.0
    return _squared_distance(mean1, sigma1, mean2, sigma2, overlap)


def frechet_figure(
    first: tuple[ArrayLike, ArrayLike, int],
    second: tuple[ArrayLike, ArrayLike, int],
    confidence: float = CONFIDENCE,
) -> Figure:
    """:func:`frechet_distance` with an interval from the statistics alone.

    The delta method for Gaussian features (Rippl, Munk and Sturm 2016): a picture x of the first
    set moves the distance by ``(x - mu1)^T (I - T) (x - mu1) + 2 (mu1 - mu2)^T (x - mu1)`` and a
    constant, where T is the optimal map between the Gaussians. With covariances L1 L1^T and L2 L2^T
    and ``L1^T L2 = U S V^T`` its variance is
    ``2 |L1^T L1 - U S U^T|^2 + 4 (mu1 - mu2)^T cov1 (mu1 - mu2)``, and alike for the second set.

    The interval is about the spread between samples of this size. It takes the two sets as
    independent, and it does **not** cover the estimate's bias, which is upward and large where n is
    not far above the number of dimensions: compare figures of equal n only.

    Args:
        first, second: mean (d,), covariance (d, d) and number of pictures, at least 2.
        confidence: two-sided.

    Returns:
        The figure; its n is the smaller number of pictures.

    Raises:
        ConfigError: as :func:`frechet_distance`, or fewer than 2 pictures.
    """
    mean1, sigma1, mean2, sigma2 = _gaussians(first[0], first[1], second[0], second[1])
    n1, n2 = first[2], second[2]
    if min(n1, n2) < 2:
        raise ConfigError(f"statistics of {n1} and {n2} pictures; both need at least 2")
    factor1, factor2 = _factor("cov1", sigma1), _factor("cov2", sigma2)
    u, s, vt = np.linalg.svd(factor1.T @ factor2, full_matrices=False)
    value = _squared_distance(mean1, sigma1, mean2, sigma2, float(s.sum()))
    offset = mean1 - mean2
    variance = sum(
        (
            2 * ((factor.T @ factor - (turn * s) @ turn.T) ** 2).sum()
            + 4 * ((factor.T @ offset) ** 2).sum()
        )
        / n
        for factor, turn, n in ((factor1, u, n1), (factor2, vt.T, n2))
    )
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(variance)
    n, d = min(n1, n2), len(mean1)
    bias = " (n is below the dimensions: mostly bias)" if n <= d else ""
    note = f"{d} dimensions, interval by the delta method; biased upward on few pictures{bias}"
    return Figure(value, n, max(0.0, value - half), value + half, note)


def _gaussians(
    mu1: ArrayLike, cov1: ArrayLike, mu2: ArrayLike, cov2: ArrayLike
) -> tuple[Floats, Floats, Floats, Floats]:
    mean1, mean2 = finite("mu1", mu1, axes=1), finite("mu2", mu2, axes=1)
    sigma1, sigma2 = finite("cov1", cov1, axes=2), finite("cov2", cov2, axes=2)
    d = len(mean1)
    if mean2.shape != (d,) or sigma1.shape != (d, d) or sigma2.shape != (d, d):
        raise ConfigError(
            f"mu1 {mean1.shape}, cov1 {sigma1.shape}, mu2 {mean2.shape}, cov2 {sigma2.shape} do "
            "not belong together; give (d,), (d, d), (d,), (d, d)"
        )
    return mean1, sigma1, mean2, sigma2


def _squared_distance(
    mean1: Floats, sigma1: Floats, mean2: Floats, sigma2: Floats, overlap: float
) -> float:
    offset = float(((mean1 - mean2) ** 2).sum())
    return max(0.0, offset + float(np.trace(sigma1) + np.trace(sigma2)) - 2 * overlap)


def _factor(name: str, covariance: Floats) -> Floats:
    """L (d, r) with L L^T = covariance, r its numerical rank."""
    size = float(np.abs(covariance).max())
    if float(np.abs(covariance - covariance.T).max()) > 1e-8 * size:
        raise ConfigError(f"{name} is not symmetric; give a covariance matrix")
    values, vectors = np.linalg.eigh(covariance)
    noise = len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    if values[0] < -1e6 * noise - np.finfo(np.float64).tiny:
        raise ConfigError(f"{name} has the negative eigenvalue {values[0]:.3g}; give a covariance")
    kept = values > noise
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))
