"""Tests of the benchmarks: rows, tables, verdicts and the registry; no real job."""
