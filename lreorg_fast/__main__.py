"""``python -m lreorg_fast`` is the command ``lreorg``."""

from __future__ import annotations

from lreorg_fast.cli import main

if __name__ == "__main__":
    main()
