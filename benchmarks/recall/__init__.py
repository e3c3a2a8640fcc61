"""Benchmark of recall on several kinds of logs: `python -m benchmarks.recall DATA...`."""
