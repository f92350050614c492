"""Calibration: one streamed pass over the data through the runtime that will ship the model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from autosparse.calibration import LayerStatistics, RangeObserver, StatisticsObserver
from autosparse.calibration.gradients import GRADIENT_ROWS, GradientObserver
from autosparse.calibration.layer_statistics import hessian_bytes
from autosparse.datasets import Dataset, batches
from autosparse.errors import CandidateError, ConfigError, ModelError
from autosparse.evaluation import Runner
from autosparse.evaluation.budget import byte_words
from autosparse.heap import free_memory, return_freed_memory
from autosparse.methods import METHODS
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.layer_choices import Choice

_ROWS = 512
_OBSERVED_BYTES = 128 << 20
# Differentiated at once: every layer's input and the slopes by its outputs are alive together.
_GRADIENT_BATCH = 16
_FROM_GRADIENTS = {"gradient_norms", "row_gradients"}
# Of all estimators, the one that needs the finest histogram: the others can read it too.
_FINEST = "entropy"


@dataclass(frozen=True)
class _Observed:
    ranges: RangeObserver
    statistics: StatisticsObserver
    gradients: GradientObserver | None = None
    """None where no method asked for them, or torch cannot run the model."""
    why_no_gradients: str = ""

    def of(self, layer: str, needs: Collection[str]) -> LayerStatistics:
        """See `Calibration.of`."""
        found = self.statistics.statistics(layer)
        if not _FROM_GRADIENTS & set(needs):
            return found
        if self.gradients is None:
            raise CandidateError(
                f"{layer}: there are no gradients: {self.why_no_gradients}",
                hint="leave the methods out that read gradients",
            )
        return replace(
            found,
            gradient_norms=self.gradients.gradient_norms(layer),
            row_gradients=self.gradients.row_gradients(layer),
        )


class Calibration:
    """What the pass tells: about every tensor, and about every layer's input.

    The pass is made when one of them is first asked for: a job whose level table is complete
    needs none.
    """

    def __init__(self, job: Job, choices: Sequence[Choice]) -> None:
        self._job = job
        self._choices = choices

    @property
    def ranges(self) -> RangeObserver:
        """Ranges of the tensors that int8 layers read and write."""
        return self._observed.ranges

    @property
    def statistics(self) -> StatisticsObserver:
        """What the methods of the chosen levels ask for."""
        return self._observed.statistics

    def of(self, layer: str, needs: Collection[str]) -> LayerStatistics:
        """What the pass told about one layer.

        Args:
            layer: its name.
            needs: what the method reads.

        Raises:
            CandidateError: it reads gradients, and torch cannot run the model.
        """
        return self._observed.of(layer, needs)

    @cached_property
    def _observed(self) -> _Observed:
        return _observe(self._job, self._choices)


def calibrate(job: Job, choices: Sequence[Choice]) -> Calibration:
    """Prepare to observe what the chosen levels' methods will ask for."""
    return Calibration(job, choices)


def _observe(job: Job, choices: Sequence[Choice]) -> _Observed:
    """One pass over the data, batch by batch, keeping no tensor."""
    data = first_rows(job.calibration, _ROWS)
    job.engines.progress.stage("calibrate", f"{len(data)} rows")
    backend = job.engines.backend
    ranged = set(backend.calibrated_tensors(job.graph))
    needs = _needs(choices)
    layers = [layer for layer in job.graph.layers if layer.name in needs]
    hessians = tuple(name for name, statistics in needs.items() if "hessian" in statistics)
    _check_room(job, choices, hessians)
    found = _Observed(
        RangeObserver(_FINEST), StatisticsObserver(job.graph, layers, hessians=hessians)
    )
    read = set(found.statistics.tensors)
    tensors = sorted(ranged | read)
    runner = backend.probe(job.graph, tensors, threads=len(os.sched_getaffinity(0)))
    done = 0
    for batch, real in batches(data.inputs, _rows_at_once(job, runner, data)):
        for name, values in {**batch, **runner.run(batch)}.items():
            kept = values[:real]
            if name in ranged:
                found.ranges.observe(name, kept.astype(np.float32, copy=False))
            if name in read:
                found.statistics.observe(name, kept.astype(np.float32, copy=False))
        done += real
        job.engines.progress.step(done, len(data))
    del runner
    return_freed_memory()
    return _with_gradients(job, found, needs)


def _check_room(job: Job, choices: Sequence[Choice], hessians: Collection[str]) -> None:
    """Hold the memory that all Hessians take together against what is free.

    Raises:
        ConfigError: they do not fit.
    """
    layers = [layer for layer in job.graph.layers if layer.name in hessians]
    taken, free = hessian_bytes(job.graph, layers), free_memory()
    if taken > free:
        methods = " and ".join(sorted({str(c.level.method) for c in choices if _reads_hessian(c)}))
        raise ConfigError(
            f"{methods} need a Hessian of every layer's inputs: for "
            f"{len(layers)} layers they take {byte_words(taken, ' ')}, and {byte_words(free, ' ')} "
            "of memory are free",
            hint="leave the largest layers out with --exclude, or take a --space whose methods "
            "need none, such as magnitude and wanda",
        )


def _with_gradients(job: Job, found: _Observed, needs: Mapping[str, Collection[str]]) -> _Observed:
    """Differentiate the model where a method asks for it; a note, and none, where torch cannot."""
    wanted = [
        layer for layer in job.graph.layers if _FROM_GRADIENTS & set(needs.get(layer.name, ()))
    ]
    if not wanted:
        return found
    keep = [layer.name for layer in wanted if "row_gradients" in needs[layer.name]]
    data = first_rows(job.calibration, GRADIENT_ROWS)
    at_once = job.evaluation_batch if job.has_fixed_batch else _GRADIENT_BATCH
    try:
        gradients = GradientObserver(job.graph, wanted, keep=keep)
        for batch, real in batches(data.inputs, at_once):
            rows = at_once if job.has_fixed_batch else real
            gradients.observe({name: values[:rows] for name, values in batch.items()})
    except ModelError as error:
        job.engines.progress.note(f"no gradients: {error}")
        return replace(found, why_no_gradients=str(error))
    return_freed_memory()
    return replace(found, gradients=gradients)


def _rows_at_once(job: Job, runner: Runner, data: Dataset) -> int:
    """Rows of a batch whose observed tensors together stay small: a probe returns them all."""
    if job.has_fixed_batch:
        return job.evaluation_batch
    one, _ = next(batches(data.inputs, 1))
    row_bytes = sum(values.nbytes for values in runner.run(one).values())
    return min(max(_OBSERVED_BYTES // max(row_bytes, 1), 1), job.evaluation_batch)


def _reads_hessian(choice: Choice) -> bool:
    method = choice.level.method
    return choice.runs and method is not None and "hessian" in METHODS.load(method).needs


def _needs(choices: Sequence[Choice]) -> dict[str, set[str]]:
    """Layer -> statistics that the methods of its levels read."""
    needs: dict[str, set[str]] = {}
    for choice in choices:
        if choice.runs and choice.level.method is not None:
            wanted = METHODS.load(choice.level.method).needs
            if wanted:
                needs.setdefault(choice.layer.name, set()).update(wanted)
    return needs
