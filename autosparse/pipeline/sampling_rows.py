"""The rows of the sampling rung: what a candidate is run on before it may become a trial.

To lower a candidate takes a few tenths of a second, however few rows follow. So there are as many
as a runtime computes in about that time: of candidates that differ in a few layers, the mean of a
divergence over few rows says more about those rows than about the candidates, and whoever picks the
least of hundreds picks the luckiest.
"""

from __future__ import annotations

from autosparse.datasets import Dataset
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.cost import layer_costs
from autosparse.pipeline.job import Job, first_rows

FEW_ROWS = 64
"""Rows of what is asked of many files that differ in one layer; the sampling rung has no fewer."""
_MACS = 40_000_000_000
"""Multiply-accumulates of one candidate: half a second of two cores, and of the model alone, so
that a job that goes on elsewhere, or answers another budget, has the same rows."""


def sampling_rows(job: Job) -> Dataset:
    """The first of the rows that select."""
    return first_rows(job.selecting, _as_many(job.graph, job.selecting))


def _as_many(graph: ModelGraph, data: Dataset) -> int:
    """So many rows take the time that there is; few, where the cost of a layer is not known."""
    shapes = {name: (1, *array.shape[1:]) for name, array in data.inputs.items()}
    costs = [cost.macs for cost in layer_costs(graph, shapes).values()]
    known = [macs for macs in costs if macs is not None]
    if not known or len(known) < len(costs):
        return FEW_ROWS
    return max(_MACS // max(sum(known), 1), FEW_ROWS)
