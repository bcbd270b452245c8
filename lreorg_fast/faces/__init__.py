"""Faces in pictures: where they lie, and cut out the way that generators know them."""

from __future__ import annotations

from lreorg_fast.faces.align import AlignedFace, align, ffhq_quad

__all__ = ["AlignedFace", "align", "ffhq_quad"]
