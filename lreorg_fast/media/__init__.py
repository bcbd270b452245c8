"""Pictures in and out. Needs Pillow and numpy, never torch."""

from __future__ import annotations

from lreorg_fast.media.images import MAX_PIXELS, read_image, write_image
from lreorg_fast.media.outputs import OutputPlan, Skipped, Wanted, plan_outputs

__all__ = [
    "MAX_PIXELS",
    "OutputPlan",
    "Skipped",
    "Wanted",
    "plan_outputs",
    "read_image",
    "write_image",
]
