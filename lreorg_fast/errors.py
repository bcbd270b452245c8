"""Every error that a caller may want to catch, under one base class.

A message is one sentence that names the field or file, the value, what is allowed, and the
remedy. Each class also derives from the built-in that a Python user would expect, so code that
knows nothing of this package still catches the right thing.
"""

from __future__ import annotations


class LReorgError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(LReorgError, ValueError):
    """A setting has the wrong type, is out of range or contradicts another."""


class BackendUnavailable(LReorgError, RuntimeError):
    """An explicitly requested backend cannot run here; the message says why."""


class CheckpointError(LReorgError, ValueError):
    """A weights file is unreadable, incomplete or does not fit the architecture."""


class BundleError(LReorgError, ValueError):
    """A bundle folder is missing parts, damaged or of an unknown version."""


class ImageError(LReorgError, ValueError):
    """An image was refused before or while it was decoded."""


class VideoError(LReorgError, ValueError):
    """A video was refused before or while it was decoded, or cannot be written as asked."""


class NoFaceError(VideoError):
    """Nobody was found in a video, so nothing was written."""


class OutputError(LReorgError, OSError):
    """A result cannot be written where it was asked for."""


class PrivacyError(LReorgError, RuntimeError):
    """A privacy step could not be done, so nothing may be released."""


class BudgetExceeded(PrivacyError):
    """A draw was refused because it would spend more epsilon than the ledger allows."""


class LateError(LReorgError, TimeoutError):
    """Work on a face, or the search for faces, took longer than it was allowed to."""


class StuckError(LReorgError, RuntimeError):
    """So much late work has not come back that going on makes no sense; the run ends."""


class SealError(PrivacyError):
    """A sealed original, or a key for it, is damaged, belongs to another picture or key."""


class MissingExtra(LReorgError, ImportError):
    """An optional dependency is not installed; the message names the extra."""
