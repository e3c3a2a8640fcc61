"""What mnesis costs, measured: `python -m benchmarks.store` and `python -m benchmarks.cache`. See README.md."""
