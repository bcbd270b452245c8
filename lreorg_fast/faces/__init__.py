"""Faces in pictures: where they lie, and cut out the way that generators know them."""

from __future__ import annotations

from lreorg_fast.faces.align import AlignedFace, align, ffhq_quad
from lreorg_fast.faces.detection import Detection, Detector, load_detector

__all__ = ["AlignedFace", "Detection", "Detector", "align", "ffhq_quad", "load_detector"]
