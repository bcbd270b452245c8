"""The Frechet inception distance (Heusel et al. 2017) in both conventions that are in use.

Two programs compute "FID" with the same network and prepare the pictures differently: pytorch-fid
(mseitzer) and torch-fidelity (toshas), which follows the TensorFlow original. Their figures must
not be compared with each other, so features carry their convention's name and refuse to be mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.figures import Floats, finite
from lreorg_fast.evaluation.frechet import frechet_distance

if TYPE_CHECKING:
    from torch import Tensor

    from lreorg_fast.models import FidInception


class FeatureStatistics:
    """Mean and covariance of features that come in batches, in float64 and in constant memory.

    Sums of squares are taken around the mean (Chan et al. 1983), so nothing cancels. Features of
    2048 dimensions need 34 MB, whatever the number of pictures.

    Args:
        length: number of dimensions.
        space: what the features are, such as "inception-2048 pytorch-fid"; only statistics of the
            same space can be merged or compared.
    """

    def __init__(self, length: int, space: str = "") -> None:
        if length < 1:
            raise ConfigError(f"length is {length}, but features have at least 1 dimension")
        self.length = length
        self.space = space
        self.n = 0
        self._mean: Floats = np.zeros(length)
        self._scatter: Floats = np.zeros((length, length))

    def add(self, features: ArrayLike) -> None:
        """Take in a batch ``(n, length)``, n at least 1.

        Raises:
            ConfigError: another shape, NaN or infinity; the statistics stay as they were.
        """
        rows = finite("features", features, axes=2)
        if rows.shape[1] != self.length:
            raise ConfigError(
                f"the features have {rows.shape[1]} dimensions and these statistics "
                f"{self.length}; use one network and one layer"
            )
        mean = rows.mean(axis=0)
        centered = rows - mean
        self._include(len(rows), mean, centered.T @ centered)

    def merge(self, other: FeatureStatistics) -> None:
        """Take in what ``other`` has seen, as if its batches had been added here.

        Raises:
            ConfigError: statistics of another space or length.
        """
        self._check_same_space(other)
        if other.n:
            self._include(other.n, other._mean, other._scatter)

    @property
    def mean(self) -> Floats:
        """``(length,)``.

        Raises:
            ConfigError: nothing has been added.
        """
        self._check_count(1)
        return np.array(self._mean)

    @property
    def covariance(self) -> Floats:
        """``(length, length)`` with n - 1 in the denominator, as ``np.cov`` has it.

        Raises:
            ConfigError: fewer than 2 pictures.
        """
        self._check_count(2)
        return np.asarray(self._scatter / (self.n - 1))

    def distance(self, other: FeatureStatistics) -> float:
        """The Frechet distance; FID if both are statistics of Inception features.

        The estimate is biased upward on few pictures: compare figures of equal n only.

        Raises:
            ConfigError: statistics of different spaces, or fewer than 2 pictures in one of them.
        """
        self._check_same_space(other)
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)

    def _include(self, n: int, mean: Floats, scatter: Floats) -> None:
        total = self.n + n
        offset = mean - self._mean
        self._scatter += scatter + np.outer(offset, offset) * (self.n * n / total)
        self._mean += offset * (n / total)
        self.n = total

    def _check_same_space(self, other: FeatureStatistics) -> None:
        if (self.space, self.length) != (other.space, other.length):
            raise ConfigError(
                f"statistics of '{self.space}' ({self.length} dimensions) and of '{other.space}' "
                f"({other.length} dimensions) do not belong together; compute both in the same way"
            )

    def _check_count(self, least: int) -> None:
        if self.n < least:
            raise ConfigError(
                f"the statistics hold {self.n} pictures and need at least {least}; add more"
            )


def _pytorch_fid(pictures: Tensor, size: int) -> Tensor:
    """[0, 1], bilinear without antialiasing (half-pixel centres), then 2 x - 1."""
    import torch
    from torch.nn import functional as F

    if pictures.dtype == torch.uint8:
        x = pictures.float() / 255
    elif bool(((pictures >= 0) & (pictures <= 1)).all()):
        x = pictures.float()
    else:
        raise ConfigError(
            "the pictures have values outside of [0, 1] or NaN; give uint8, or floats in [0, 1]"
        )
    return 2 * F.interpolate(x, (size, size), mode="bilinear", align_corners=False) - 1


def _torch_fidelity(pictures: Tensor, size: int) -> Tensor:
    """0 to 255, TensorFlow 1's bilinear, then (x - 128) / 128."""
    import torch

    if pictures.dtype != torch.uint8:
        raise ConfigError(
            f"the pictures are {pictures.dtype}, but torch-fidelity takes uint8; round them first"
        )
    x = _tensorflow_bilinear(_tensorflow_bilinear(pictures.float(), 3, size), 2, size)
    return (x - 128) / 128


def _tensorflow_bilinear(x: Tensor, axis: int, size: int) -> Tensor:
    """One axis resized with corners as pixel centres: output i lies at ``i * in / out``."""
    import torch

    length = x.shape[axis]
    position = torch.arange(size, dtype=torch.float32, device=x.device) * (length / size)
    below = position.long()
    above = (below + 1).clamp(max=length - 1)
    shape = [1] * x.ndim
    shape[axis] = size
    share = (position - below).reshape(shape)
    start = x.index_select(axis, below)
    return start + (x.index_select(axis, above) - start) * share


CONVENTIONS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "pytorch-fid": _pytorch_fid,
    "torch-fidelity": _torch_fidelity,
}


def prepare_pictures(pictures: Tensor, convention: str) -> Tensor:
    """Pictures as Inception sees them.

    Args:
        pictures: ``(N, 3, H, W)`` RGB, uint8; for pytorch-fid also floating point in [0, 1].
        convention: "pytorch-fid" or "torch-fidelity".

    Returns:
        ``(N, 3, 299, 299)`` float32 on the same device.

    Raises:
        ConfigError: an unknown convention, or pictures of another shape, type or range.
    """
    from lreorg_fast.models.inception import INPUT_SIZE

    if convention not in CONVENTIONS:
        raise ConfigError(
            f"the convention '{convention}' is unknown; choose {' or '.join(CONVENTIONS)}"
        )
    if pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape:
        raise ConfigError(
            f"the pictures have the shape {tuple(pictures.shape)}; give (N, 3, H, W), not empty"
        )
    return CONVENTIONS[convention](pictures, INPUT_SIZE)


def inception_statistics(
    network: FidInception, batches: Iterable[Tensor], convention: str, length: int = 2048
) -> FeatureStatistics:
    """Statistics of the Inception features of any number of pictures.

    Args:
        network: from :func:`lreorg_fast.weights.inception.load_inception`; it decides the device.
        batches: each as :func:`prepare_pictures` takes them; read one after the other.
        convention: "pytorch-fid" or "torch-fidelity".
        length: 2048 (FID as published), 768, 192 or 64.

    Raises:
        ConfigError: see :func:`prepare_pictures`.
    """
    import torch

    device = next(network.parameters()).device
    statistics = FeatureStatistics(length, f"inception-{length} {convention}")
    for pictures in batches:
        with torch.inference_mode():
            x = prepare_pictures(pictures.to(device), convention)
            features = network.features(x, length).cpu().numpy()
        statistics.add(features)
    return statistics
