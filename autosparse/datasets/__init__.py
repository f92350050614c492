"""Data that people bring, checked before anything is computed from it."""

from autosparse.datasets.dataset import Dataset, batches, load_dataset

__all__ = ["Dataset", "batches", "load_dataset"]
