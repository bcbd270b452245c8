"""Benchmarks: ``python -m bench.cpu`` and ``pytest bench``; see docs/benchmarks.md."""
