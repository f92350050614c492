"""Inputs for timing a file outside a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autosparse.datasets import Dataset, load_dataset
from autosparse.evaluation import Target
from autosparse.evaluation.backend import Array
from autosparse.model_graph import ModelGraph
from autosparse.pipeline.job import write_timing_inputs


def write_inputs(path: Path, graph: ModelGraph, target: Target, given: Path | None) -> None:
    """Write one inference's inputs: the first given rows, else random ones."""
    data = (
        random_inputs(graph, target)
        if given is None
        else load_dataset(given, graph.inputs, "inputs")
    )
    write_timing_inputs(path, data, target)


def random_inputs(graph: ModelGraph, target: Target) -> Dataset:
    """One inference's inputs in the target's shapes.

    Random floats are normal; random integers are zeros and ones, which every embedding takes.
    """
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {}
    for spec in graph.inputs:
        shape = target.input_shapes[spec.name]
        drawn = rng.standard_normal(shape)
        kept = drawn if np.issubdtype(spec.dtype, np.floating) else drawn > 0
        arrays[spec.name] = np.asarray(kept).astype(spec.dtype)
    return Dataset(inputs=arrays)
