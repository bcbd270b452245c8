"""The demonstration: unseen avatars in, anonymized avatars, a contact sheet and figures out."""

from __future__ import annotations

from lreorg_fast.demo.run import run_demo

__all__ = ["run_demo"]
