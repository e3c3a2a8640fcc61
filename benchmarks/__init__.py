"""Benchmarks of mnesis, such as `python -m benchmarks.store`. See README.md."""
