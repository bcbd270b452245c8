"""Which square around a face a bundle's networks were made for: a property of their domain.

Photographs are cut as FFHQ was (:func:`lreorg_fast.faces.align.ffhq_quad`). Any other domain says
where five points lie in its square, and the similarity that brings them nearest to the landmarks
of a face gives the square around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.align import ffhq_quad
from lreorg_fast.faces.regions import Shape

Floats = NDArray[np.float64]

AVATARS = "avatars"
# Mean landmarks of the demo's avatars (lreorg_fast.avatars.landmarks.mean_landmarks), for bundles
# that were written before their domain had an alignment.
AVATAR_POINTS = (
    (0.37651, 0.49795),
    (0.62349, 0.49795),
    (0.5, 0.6094),
    (0.40964, 0.71181),
    (0.59036, 0.71181),
)
# A portrait of an avatar is drawn as a whole, hair and shoulders included. Its mask is a rounded
# square; the outermost 4% on each side are its soft border.
_PORTRAIT_POWER, _PORTRAIT_INNER, _PORTRAIT_OUTER = 6.0, 0.90, 0.98
_UNIT_CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])


@dataclass(frozen=True)
class Alignment:
    """Where the face is in the square of a domain.

    Attributes:
        points: five (x, y) shares of the side; None is FFHQ's alignment.
        portrait: the whole square is the face with its hair, not only an ellipse in it.
    """

    points: tuple[tuple[float, float], ...] | None = None
    portrait: bool = False

    @classmethod
    def of_domain(cls, kind: str, points: Sequence[tuple[float, float]] | None = None) -> Alignment:
        """Of a bundle's domain (:class:`lreorg_fast.weights.Domain`)."""
        if kind == AVATARS:
            return cls(tuple(points or AVATAR_POINTS), portrait=True)
        return cls(None if points is None else tuple(points))

    def quad(self, landmarks: ArrayLike) -> Floats:
        """(4, 2) corners of the square around a face: top left, bottom left, bottom right, top
        right.

        Args:
            landmarks: (5, 2) pixels.

        Raises:
            ConfigError: the points do not make a face.
        """
        if self.points is None:
            return ffhq_quad(landmarks)
        found = np.asarray(landmarks, dtype=np.float64)
        if found.shape != (5, 2) or not (np.abs(found) < 1e9).all():
            raise ConfigError(f"the landmarks are {found.shape}, but must be (5, 2) finite pixels")
        return fitted_square(np.array(self.points), found)

    def portrait_shapes(self, quad: Floats) -> tuple[Shape, ...]:
        """What of the square is seen in the picture, beside the ellipse of the face."""
        if not self.portrait:
            return ()
        right, down = (quad[3] - quad[0]) / 2, (quad[1] - quad[0]) / 2
        inner = _PORTRAIT_INNER
        return (
            Shape(
                quad.mean(axis=0),
                inner * right,
                inner * down,
                _PORTRAIT_POWER,
                _PORTRAIT_OUTER / inner,
            ),
        )


def fitted_square(points: Floats, landmarks: Floats) -> Floats:
    """Corners of the unit square under the similarity that brings ``points`` to ``landmarks``.

    Least squares over scale, rotation and shift, without reflection: Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns" (1991); in the plane it is
    one complex quotient.

    Raises:
        ConfigError: all landmarks in one place.
    """
    ours, theirs = (p[:, 0] + 1j * p[:, 1] for p in (points, landmarks))
    middle, target = ours.mean(), theirs.mean()
    spread = float((np.abs(ours - middle) ** 2).sum())
    turn = (np.conj(ours - middle) * (theirs - target)).sum() / spread
    # Rounding alone makes a turn of about 1e-16 times the coordinates.
    if not np.abs(turn) > 1e-9 * max(1.0, float(np.abs(theirs).max())):
        raise ConfigError("the landmarks do not make a face: they have no size or no direction")
    corners = (_UNIT_CORNERS[:, 0] + 1j * _UNIT_CORNERS[:, 1] - middle) * turn + target
    return np.stack([corners.real, corners.imag], axis=1)
