"""The benchmark suite: ``python -m benchmarks``. Ratios of one run against raw asyncpg, beside the peers."""
