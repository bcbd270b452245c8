"""Procedural avatars: faces of nobody, with known identity and attributes."""

from __future__ import annotations

from lreorg_fast.avatars.landmarks import face_boxes, landmarks
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.scenes import PATHS, AvatarClip, SceneConfig, TrueFace
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
    "PATHS",
    "Attribute",
    "AvatarClip",
    "Avatars",
    "SceneConfig",
    "TrueFace",
    "face_boxes",
    "landmarks",
    "render",
    "sample_avatars",
    "sample_people",
]
