"""Procedural avatars: faces of nobody, with known identity and attributes."""

from __future__ import annotations

from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import (
    ATTRIBUTE_NAMES,
    ATTRIBUTES,
    IDENTITY_TRAITS,
    Attribute,
    Avatars,
    sample_avatars,
    sample_people,
)

__all__ = [
    "ATTRIBUTES",
    "ATTRIBUTE_NAMES",
    "IDENTITY_TRAITS",
    "Attribute",
    "Avatars",
    "render",
    "sample_avatars",
    "sample_people",
]
