"""`job`: the whole product against INT8 everywhere and a greedy mix, on rows that nobody saw.

For every model and budget: is what is delivered nearer to the dense model than what the same
latency gives elsewhere, does it hold when it is verified again, is the latency predictor right,
and what do a score and a whole job cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from autosparse.evaluation import read_environment
from benchmarks.benchmark import Request
from benchmarks.guarded import guarded_rows
from benchmarks.job_cells import Cell
from benchmarks.job_models import FULL, QUICK
from benchmarks.job_parts import ModelRun
from benchmarks.job_rows import summary_rows
from benchmarks.parts import Parts
from benchmarks.rows import Row


class JobBenchmark:
    """Every model at every budget."""

    summary = "what a job delivers, against INT8 everywhere and a greedy INT8/fp32 mix"
    in_parts: Literal[True] = True

    def rows(self, request: Request) -> Iterator[Row]:
        """Measure model after model; what fails is a row, and the next one runs."""
        scale = QUICK if request.quick else FULL
        parts = Parts(request, read_environment().id)
        cells: list[Cell] = []
        for name in request.models or scale.models:
            run = ModelRun(name, parts, scale)
            yield from guarded_rows(request, parts.environment, name, run.rows)
            cells.extend(run.cells)
        yield from summary_rows(cells, parts.environment, is_whole=not parts.left)
        yield from parts.remaining_rows()
