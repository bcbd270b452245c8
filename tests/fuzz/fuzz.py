"""Coverage-guided fuzzing of one reader with atheris, by hand.

Usage: python tests/fuzz/fuzz.py READER [options of libFuzzer, such as -max_total_time=60]

It starts from tests/data/fuzz/READER, which it does not change; what it finds goes to a temporary
folder that it names. A crash is an exception that is no refusal; its input is written to the
current folder. Needs ``pip install atheris`` (no extra of this package brings it).
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from readers import CORPUS, READERS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.stderr.write(f"usage: fuzz.py READER [options]; readers: {', '.join(READERS)}\n")
        sys.exit(2)
    import atheris

    name = sys.argv[1]
    reader = READERS[name]
    place = Path(tempfile.mkdtemp(prefix=f"lreorg-fuzz-{name}-"))
    work = place / "work"
    work.mkdir()
    shutil.copytree(CORPUS / name, place / "corpus")
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    with atheris.instrument_imports(include=["lreorg_fast"]):
        import lreorg_fast  # the readers import the rest of it on first use
    assert lreorg_fast

    def one(content: bytes) -> None:
        for attempt in [content] if reader.repair is None else [content, reader.repair(content)]:
            with contextlib.suppress(*reader.refusals):
                reader.read(attempt, work)

    sys.stderr.write(f"new inputs go to {place / 'corpus'}\n")
    # The readers are imported and instrumented by reading the corpus once.
    with atheris.instrument_imports(include=["lreorg_fast"]):
        for path in sorted((CORPUS / name).iterdir()):
            one(path.read_bytes())
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(place / "corpus")], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
