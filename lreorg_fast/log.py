"""One logger for the package, and a way to say something exactly once.

Nothing of a face may be logged: no embedding, no latent, no path with a person's name.
"""

from __future__ import annotations

import logging
import threading

logger = logging.getLogger("lreorg_fast")
logger.addHandler(logging.NullHandler())

_said: set[str] = set()
_lock = threading.Lock()


def once(key: str, message: str, level: int = logging.WARNING) -> None:
    """Log ``message`` the first time ``key`` is seen in this process."""
    with _lock:
        if key in _said:
            return
        _said.add(key)
    logger.log(level, message)
