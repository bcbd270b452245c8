"""Writes trt_names.json anew: ``python tests/trt_names.py FOLDER ...``, each with an unpacked
``tensorrt_bindings`` wheel (``pip download --no-deps``, ``unzip``) of 10.9 and later."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import trt_standin


def main() -> None:
    found = {}
    for folder in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as libraries:
            for major in (10, 11):
                trt_standin.build_libraries(Path(libraries), None, major)
            told = trt_standin.probe(Path(libraries), folder, None)
        found[told["version"]] = told["names"]
    target = Path(__file__).with_name("trt_names.json")
    target.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True))


if __name__ == "__main__":
    main()
