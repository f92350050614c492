"""Artifacts: what is delivered and shown. Bundle, manifest, per-layer table, report."""
