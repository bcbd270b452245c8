"""Live pictures: frames in, frames out, nothing unprocessed between."""

from __future__ import annotations

from lreorg_fast.live.embedding import StreamSettings, stream
from lreorg_fast.live.processor import FrameProcessor, Shown, Tracker

__all__ = ["FrameProcessor", "Shown", "StreamSettings", "Tracker", "stream"]
