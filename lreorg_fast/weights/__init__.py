"""Weights in and out: safetensors read without trust, and the bundle format."""

from __future__ import annotations

from lreorg_fast.weights.bundle import Bundle, open_bundle, write_bundle
from lreorg_fast.weights.cache import cached
from lreorg_fast.weights.fetch import add, fetch
from lreorg_fast.weights.manifest import BundleFile, BundleManifest, Domain, Part
from lreorg_fast.weights.tensors import load_into, read_tensors, write_tensors

__all__ = [
    "Bundle",
    "BundleFile",
    "BundleManifest",
    "Domain",
    "Part",
    "add",
    "cached",
    "fetch",
    "load_into",
    "open_bundle",
    "read_tensors",
    "write_bundle",
    "write_tensors",
]
