"""The model as it came, as a file to deliver: its very bytes, and the data files beside it."""

from __future__ import annotations

from autosparse.evaluation import LoweredModel
from autosparse.model_graph.external_data import copy_model
from autosparse.pipeline.job import Job

_NAME = "model.onnx"


def copy_of_original(job: Job) -> LoweredModel:
    """A copy in a directory of its own, under the name that a delivered model has.

    Raises:
        ModelError: the names of its files do not allow it.
    """
    directory = job.scratch("original")
    copy_model(job.original.path, directory / _NAME)
    return LoweredModel(directory, _NAME)
