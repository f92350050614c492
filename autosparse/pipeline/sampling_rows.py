"""The sample: the rows that files are compared on before one is evaluated on all that select.

To lower a candidate takes a few tenths of a second, however few rows follow. So there are as many
as a runtime computes in about that time: of candidates that differ in a few layers, the mean of a
divergence over few rows says more about those rows than about the candidates, and whoever picks the
least of hundreds picks the luckiest. The level table is built on the same rows, so that what its
sum does not explain of a candidate is what layers do to each other, and not what rows differ in.
"""

from __future__ import annotations

import numpy as np

from autosparse.datasets import Dataset
from autosparse.evaluation.answers import Answers, in_batches
from autosparse.evaluation.sample import Sample, drawn, whole
from autosparse.evaluation.scores import Floats
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.cost import layer_costs
from autosparse.pipeline.job import Job

FEWEST_ROWS = 64
_MACS = 40_000_000_000
"""Multiply-accumulates of one file: half a second of two cores, and of the model alone, so that a
job that goes on elsewhere, or answers another budget, has the same rows."""


def draw_sample(job: Job, dense: Answers) -> Sample:
    """Of the rows that select, those that tell most of a divergence.

    Args:
        job: the model and its data.
        dense: the dense model's answers to the rows that select.
    """
    count = _as_many(job.graph, job.selecting)
    if count >= len(job.selecting):
        return whole(job.selecting, dense)
    rng = np.random.default_rng(job.config.seed)
    numbers, weights = drawn(_sensitivities(job, dense), count, rng)
    rows = job.selecting.rows(numbers)
    return Sample(rows, job.kept(job.original, rows, "sample"), numbers, weights)


def _sensitivities(job: Job, dense: Answers) -> Floats:
    """(rows,): what is expected of each; all the same where the divergence does not tell."""
    sensitivity, count = job.workshop.divergence_metric.sensitivity, len(job.selecting)
    if sensitivity is None:
        return np.ones(count)
    batches = in_batches(dense, count, job.evaluation_batch)
    return np.concatenate([sensitivity(outputs) for _, outputs in batches])


def _as_many(graph: ModelGraph, data: Dataset) -> int:
    """So many rows take the time that there is; few, where the cost of a layer is not known."""
    shapes = {name: (1, *array.shape[1:]) for name, array in data.inputs.items()}
    costs = [cost.macs for cost in layer_costs(graph, shapes).values()]
    known = [macs for macs in costs if macs is not None]
    if not known or len(known) < len(costs):
        return FEWEST_ROWS
    return max(_MACS // max(sum(known), 1), FEWEST_ROWS)
