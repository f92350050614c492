"""What a model computes inside: some of its tensors, as the runtime that ships it has them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

import numpy as np

from autosparse.datasets import Dataset, batches
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.graph import FloatArray
from autosparse.pipeline.job import Job

_OBSERVED_BYTES = 128 << 20


class Probe:
    """Some tensors of a model, batch by batch.

    Args:
        job: whose runtime computes them.
        graph: the model.
        data: the rows.
        tensors: names; inputs of the model may be among them.
        rows_at_once: rows of a batch; None for as many as keep all tensors of one small.

    Raises:
        MeasurementError: the runtime cannot open the model.
    """

    def __init__(
        self,
        job: Job,
        graph: ModelGraph,
        data: Dataset,
        tensors: Collection[str],
        rows_at_once: int | None = None,
    ) -> None:
        self._data, self._tensors = data, frozenset(tensors)
        threads = len(os.sched_getaffinity(0))
        self._runner = job.backend.probe(graph, sorted(self._tensors), threads=threads)
        self.rows_at_once = rows_at_once or self._fitting_rows(job)
        """Rows of a batch."""

    def __iter__(self) -> Iterator[tuple[dict[str, FloatArray], int]]:
        """Tensor -> its values for a batch, and how many rows the batch has.

        Raises:
            MeasurementError: the runtime fails on a row.
        """
        for batch, real in batches(self._data.inputs, self.rows_at_once):
            computed = {**batch, **self._runner.run(batch)}
            yield (
                {
                    name: values[:real].astype(np.float32, copy=False)
                    for name, values in computed.items()
                    if name in self._tensors
                },
                real,
            )

    def _fitting_rows(self, job: Job) -> int:
        """Rows whose tensors together stay small: a probe returns them all."""
        if job.has_fixed_batch:
            return job.evaluation_batch
        one, _ = next(batches(self._data.inputs, 1))
        row_bytes = sum(values.nbytes for values in self._runner.run(one).values())
        return min(max(_OBSERVED_BYTES // max(row_bytes, 1), 1), job.evaluation_batch)
