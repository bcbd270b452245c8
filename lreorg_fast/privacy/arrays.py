"""What is checked before an array reaches a mechanism. Messages never show a value of a face."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, LReorgError, PrivacyError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]


def as_float64(value: Any, what: str, error: type[LReorgError] = PrivacyError) -> Float64Array:
    """A float64 numpy copy of a numpy array, sequence or torch tensor (any device, any float).

    Raises:
        error: ``value`` is not numeric or holds NaN or infinity.
    """
    # By duck type, so that torch is imported only by those who already have a tensor.
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as failure:
        raise error(f"{what} is not an array of numbers; pass a float array") from failure
    if array.dtype.kind not in "fiu":
        raise error(f"{what} has dtype {array.dtype}, but must be real numbers; convert it")
    with np.errstate(over="ignore"):
        result: Float64Array = array.astype(np.float64)
    if not np.isfinite(result).all():
        raise error(f"{what} holds NaN or infinity, but must be finite; nothing may be released")
    return result


def face_feature(feature: Any, dim: int) -> Float64Array:
    """The key feature of a whole face: the mean over its tokens.

    Args:
        feature: (tokens, dim) or (dim,), torch or numpy.
        dim: size of the feature.

    Returns:
        (dim,) float64, finite and not zero.

    Raises:
        PrivacyError: wrong shape, not finite, or zero (a broken network gives zeros for every
            face, and a draw from them would look like a success).
    """
    array = as_float64(feature, "feature")
    if array.ndim not in (1, 2) or array.shape[-1] != dim or array.size == 0:
        raise PrivacyError(
            f"feature has shape {array.shape}, but must be ({dim},) or (tokens, {dim}); "
            "pass the key feature of one face"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Float64Array = array.reshape(-1, dim).mean(axis=0)
    if not np.isfinite(mean).all() or not mean.any():
        raise PrivacyError(
            "feature has a mean over tokens that is zero or overflows, but must be finite and "
            "not zero; check the network that made it"
        )
    return mean


def float32_table(what: str, value: Any, ndim: int) -> Float32Array:
    """A read-only float32 copy of a public table of feature rows.

    Raises:
        ConfigError: not ``ndim`` axes, an empty one, a row of zeros, NaN or infinity in float32.
    """
    with np.errstate(over="ignore"):
        array: Float32Array = as_float64(value, what, ConfigError).astype(np.float32)
    if not np.isfinite(array).all():
        raise ConfigError(f"{what} holds a number too large for float32; rebuild it")
    if array.ndim != ndim or array.size == 0:
        raise ConfigError(
            f"{what} has shape {array.shape}, but needs {ndim} axes and no empty one; rebuild it"
        )
    if not array.any(axis=-1).all():
        raise ConfigError(f"{what} has a row of zeros, which has no direction; rebuild it")
    array.setflags(write=False)
    return array


def unit_rows(rows: Float64Array) -> Float64Array:
    """Each row divided by its 2-norm. Rows (..., dim) must be finite and not zero."""
    # Scaled by the largest entry first, so that the squares neither overflow nor vanish.
    scaled = rows / np.abs(rows).max(axis=-1, keepdims=True)
    result: Float64Array = scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)
    return result


def checked_count(what: str, value: object, minimum: int) -> int:
    """``value`` as int, or ConfigError unless it is an integer >= ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ConfigError(
            f"{what} is {value!r}, but must be an integer of at least {minimum}; correct it"
        )
    return int(value)
