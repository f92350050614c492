"""Sparse kernels: generated, compiled into one library, and called from it."""
