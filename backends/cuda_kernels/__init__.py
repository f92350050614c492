"""Kernels for the tensor cores of NVIDIA's GPUs: linear layers that are 2:4, in blocks or dense."""
