"""Where a head points, as far as five landmarks tell."""

from __future__ import annotations

import numpy as np

from lreorg_fast.evaluation.figures import Floats

ANGLES = ("yaw", "pitch", "roll")
# An average adult head in millimetres, x to the picture's right, y down, z away from the camera:
# pupils 63 apart, the tip of the nose 27 in front of them and 40 below, corners of the mouth 50
# apart and 70 below. Its errors are those of both pictures and mostly cancel in a difference.
_HEAD = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 40, -27], [-25, 70, -6], [25, 70, -6]])


def eye_distances(landmarks: Floats) -> Floats:
    """(N, 5, 2) -> (N,) distance of the eyes in pixels."""
    return np.asarray(np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1))


def head_pose(landmarks: Floats) -> Floats:
    """Angles of the head under scaled orthography (Dementhon and Davis 1995, first step).

    The best affine map of an average head to the landmarks, and the nearest rotation to it. An
    estimate: a nose longer than the average reads as pitch.

    Args:
        landmarks: (N, 5, 2) left eye, right eye, nose, left and right corner of the mouth, in
            pixels, left as in the picture; finite, eyes apart.

    Returns:
        (N, 3) yaw, pitch and roll in degrees; about 0 for a head that faces the
        camera. Positive: the nose to the picture's right, down, and the head clockwise.
    """
    model = _HEAD - _HEAD.mean(axis=0)
    seen = landmarks - landmarks.mean(axis=1, keepdims=True)
    rows = np.einsum("dp,npc->ncd", np.linalg.pinv(model), seen)  # (N, 2, 3)
    turned, _, original = np.linalg.svd(rows, full_matrices=False)
    first, second = np.moveaxis(turned @ original, 1, 0)
    third = np.cross(first, second)
    yaw = np.arctan2(third[:, 0], np.hypot(first[:, 0], second[:, 0]))
    pitch = np.arctan2(third[:, 1], third[:, 2])
    roll = np.arctan2(second[:, 0], first[:, 0])
    return np.asarray(np.degrees(np.stack([yaw, pitch, roll], axis=1)))
