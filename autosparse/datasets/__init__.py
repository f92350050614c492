"""Data that people bring, checked before anything is computed from it."""

from autosparse.datasets.dataset import Augmentation, Dataset, batches, halves, load_dataset

__all__ = ["Augmentation", "Dataset", "batches", "halves", "load_dataset"]
