"""The square that the bundle's networks know best, near the one that the landmarks give.

Five points do not say how large an avatar's head is: its eyes may be close together. The demo's
networks represent a portrait that is shifted by up to 4% of its side or 10% too small, and few
that are further off, while the landmarks of a detector put the square off by up to 15%. So where
the first square is not represented, neighbours of it are tried: the one that comes back best from
encoder and generator is the one that they were trained on. Nothing of the face is given away by
that: a square is a place.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.models.views import encoded, squared_error
from lreorg_fast.scene.canvas import Canvas

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

Floats = NDArray[np.float64]

# Log of the scale, shift right, shift down, turn: the shifts in sides, the turn in radians.
_STEPS = np.array([0.08, 0.05, 0.05, 0.10])
_COARSE = np.array(list(itertools.product((-2, -1, 0, 1), (-1, 0, 1), (-1, 0, 1), (0,)))) * _STEPS
_FINE = np.concatenate([np.diag(_STEPS), -np.diag(_STEPS)])
_ROUNDS = 3  # of fine steps, each half as wide as the one before
_SURROUNDINGS = 1.6  # sides of the square that are cut out once for all neighbours
_MOST_TRACKS = 1024


class Refinement:
    """Finds the square of a face; remembers the way to it for each track."""

    def __init__(self, anonymizer: Anonymizer) -> None:
        self._anonymizer = anonymizer
        self._limit = anonymizer.bundle.calibrated("verify.reconstruction")
        self._known: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, canvas: Canvas, quad: Floats, track: str) -> Floats:
        """A square near ``quad``, (4, 2); ``quad`` itself if none is represented better.

        Raises:
            LReorgError: the surroundings cannot be cut out.
        """
        with torch.inference_mode():
            around = self._surroundings(canvas, quad)
            with self._lock:
                start = self._known.get(track, np.zeros(4))
            best, error = self._best(around, start[None])
            if not error <= self._limit / 2:
                best, error = self._best(around, np.concatenate([best[None], _COARSE]))
                for halving in range(_ROUNDS):
                    moves = np.concatenate([np.zeros((1, 4)), _FINE / 2 ** (halving + 1)])
                    best, error = self._best(around, best + moves)
        self._remember(track, best)
        return _moved(quad, best)

    def _surroundings(self, canvas: Canvas, quad: Floats) -> Tensor:
        """(1, 3, S, S): the square with all its neighbours, at about the networks' resolution."""
        centre = quad.mean(axis=0)
        size = round(_SURROUNDINGS * 1.25 * self._anonymizer.resolution)
        wide = canvas.cut(centre + _SURROUNDINGS * (quad - centre), size)
        return wide[None].to(self._anonymizer.device)

    def _best(self, around: Tensor, places: Floats) -> tuple[Floats, float]:
        errors = self._errors(around, places)
        first = int(np.argmin(errors))
        return places[first], float(errors[first])

    def _errors(self, around: Tensor, places: Floats) -> Floats:
        size = self._anonymizer.resolution
        grid = F.affine_grid(
            torch.from_numpy(_sampling(places)).to(around), [len(places), 3, size, size], False
        )
        squares = F.grid_sample(
            around.expand(len(places), -1, -1, -1), grid, padding_mode="border", align_corners=False
        )
        back = self._anonymizer.generator.synthesis(encoded(self._anonymizer.encoder, squares))
        errors = squared_error(back, squares).double().cpu().numpy()
        return np.where(np.isfinite(errors), errors, np.inf)

    def _remember(self, track: str, place: Floats) -> None:
        with self._lock:
            self._known[track] = place
            self._known.move_to_end(track)
            while len(self._known) > _MOST_TRACKS:
                self._known.popitem(last=False)


def _sampling(places: Floats) -> NDArray[np.float32]:
    """(N, 2, 3): from a square's [-1, 1] to that of the surroundings, as affine_grid wants it."""
    scale, turn = np.exp(places[:, 0]) / _SURROUNDINGS, places[:, 3]
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    # A side is 2 in the square's coordinates.
    x, y = 2 * places[:, 1] / _SURROUNDINGS, 2 * places[:, 2] / _SURROUNDINGS
    rows = [[cosine, -sine, x], [sine, cosine, y]]
    matrices: NDArray[np.float32] = np.array(rows, dtype=np.float32)  # (2, 3, N)
    return np.ascontiguousarray(matrices.transpose(2, 0, 1))


def _moved(quad: Floats, place: Floats) -> Floats:
    """The square at this place relative to ``quad``."""
    scale, right, down, turn = np.exp(place[0]), place[1], place[2], place[3]
    across, along = quad[3] - quad[0], quad[1] - quad[0]
    centre = quad.mean(axis=0) + right * across + down * along
    ((a, b), (c, d)) = scale * np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    x, y = a * across + c * along, b * across + d * along
    corners = [-x - y, -x + y, x + y, x - y]
    return np.asarray(centre + np.stack(corners) / 2)
