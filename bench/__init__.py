"""Benchmarks: ``python -m bench.cpu`` and ``pytest bench``; see docs/benchmarks.md."""

TOKENS = 14  # one face at 256 px
