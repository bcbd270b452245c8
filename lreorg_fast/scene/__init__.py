"""Whole pictures: every face found, and replaced or covered."""

from __future__ import annotations

from lreorg_fast.scene.anonymizer import SceneAnonymizer
from lreorg_fast.scene.faces import KnownFace, SceneFace, SceneResult
from lreorg_fast.scene.settings import METHODS, SceneSettings

__all__ = ["METHODS", "KnownFace", "SceneAnonymizer", "SceneFace", "SceneResult", "SceneSettings"]
