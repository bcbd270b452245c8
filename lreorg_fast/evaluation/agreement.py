"""Whether two recognizers see the same: the correlation of what they say about the same pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.figures import CONFIDENCE, RESAMPLES, Figure, Floats, finite


def correlation_figure(
    first: ArrayLike, second: ArrayLike, *, note: str = "", seed: int = 0
) -> Figure:
    """Pearson's correlation with a percentile bootstrap interval (95%) that draws whole people.

    Args:
        first, second: ``(n,)`` one score of each person; or ``(n, n)`` scores of person i with
            person j, of which the diagonal is left out.
        note: for the report.
        seed: the same seed gives the same interval.

    Returns:
        The figure; n is the number of people.

    Raises:
        ConfigError: shapes that do not fit, fewer than 3 people, NaN, or scores all alike.
    """
    axes = np.ndim(first)
    x, y = finite("first", first, axes=axes), finite("second", second, axes=axes)
    if x.shape != y.shape or axes not in (1, 2) or len(set(x.shape)) != 1 or len(x) < 3:
        raise ConfigError(
            f"first {x.shape} and second {y.shape} must both be (n,) or (n, n) of at least 3 people"
        )
    people = len(x)
    # Large means would cost the sums below their digits.
    x, y = x - x.mean(), y - y.mean()
    moments = [np.ones_like(x), x, y, x * x, y * y, x * y]
    if axes == 2:
        for moment in moments:
            np.fill_diagonal(moment, 0.0)
    value = float(_correlations(moments, np.ones((people, 1)))[0])
    if not np.isfinite(value):
        raise ConfigError("scores that are all alike have no correlation; add other pairs")
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), RESAMPLES)
    resampled = _correlations(moments, drawn.T.astype(np.float64))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Figure(value, people, min(float(low), value), max(float(high), value), note)


def _correlations(moments: list[Floats], weights: Floats) -> Floats:
    """``weights``: (n, R), how often each person was drawn. A pair counts for both of its people;
    someone who was drawn twice is no stranger to himself."""
    count, x, y, xx, yy, xy = (
        ((m @ weights) * weights).sum(axis=0) if m.ndim == 2 else m @ weights for m in moments
    )
    covariance = xy / count - x * y / count**2
    spread = (xx / count - (x / count) ** 2) * (yy / count - (y / count) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(covariance / np.sqrt(np.maximum(spread, 0.0)))
