"""Latents of a track made calm, so that the new face does not flicker."""

from __future__ import annotations

import torch
from torch import Tensor

from lreorg_fast.faces.smoothing import OneEuroFilter

# Speeds are measured in lengths of the latent per second: half of it in a second is a fast change
# of expression for the demo's encoder.
_BETA = 4.0


class CalmLatents:
    """A one-euro filter per track; a :data:`lreorg_fast.pipeline.LatentFilter`.

    Args:
        cutoff: in Hz, of a face that rests.
    """

    def __init__(self, cutoff: float) -> None:
        self._cutoff = cutoff
        self._filters: dict[str, OneEuroFilter] = {}
        self.time = 0.0  # of the frame that comes next, in seconds

    def __call__(self, track: str, latents: Tensor) -> Tensor:
        """The filtered latents of this frame."""
        values = latents.double().cpu().numpy()
        if track not in self._filters:
            length = float((values**2).mean() ** 0.5)
            self._filters[track] = OneEuroFilter(self._cutoff, _BETA, max(length, 1e-9))
        return torch.from_numpy(self._filters[track](self.time, values)).to(latents)

    def forget(self, track: str) -> None:
        """A track has ended."""
        self._filters.pop(track, None)
