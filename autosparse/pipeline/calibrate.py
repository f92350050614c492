"""Calibration: what streamed passes over the data tell of every tensor and of every layer.

Activations come from the runtime that will ship the model, gradients from torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from autosparse.calibration import LayerStatistics, RangeObserver
from autosparse.calibration.gradients import GRADIENT_ROWS, GradientObserver
from autosparse.datasets import batches
from autosparse.errors import CandidateError, DataError
from autosparse.heap import return_freed_memory
from autosparse.model_graph.torch_executor import failures_told
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.layer_choices import Choice, statistics_read
from autosparse.pipeline.passes import Passes

FROM_GRADIENTS = frozenset({"gradient_norms", "row_gradients"})
"""Statistics for which the model is differentiated."""
# Differentiated at once: every layer's input and the slopes by its outputs are alive together.
_GRADIENT_BATCH = 16


class Calibration:
    """What the passes tell: about every tensor, and about every layer's input.

    The first one is made when something of it is first asked for: a job whose level table is
    complete needs none.
    """

    def __init__(self, job: Job, choices: Sequence[Choice]) -> None:
        self._job = job
        self._needs = _needs(choices)

    @property
    def ranges(self) -> RangeObserver:
        """Ranges of the tensors that int8 layers read and write."""
        return self._passes.ranges

    def of(self, layer: str, needs: Collection[str]) -> LayerStatistics:
        """What is known of one layer.

        Args:
            layer: its name.
            needs: what the method reads.

        Raises:
            CandidateError: it reads gradients, and there are none.
            DataError: the model computes NaN or infinity on the calibration data.
        """
        found = self._passes.statistics(layer, hessian="hessian" in needs)
        if not FROM_GRADIENTS & set(needs):
            return found
        if isinstance(self._gradients, CandidateError):
            raise CandidateError(
                f"{layer}: there are no gradients: {self._gradients.message}",
                hint="leave the methods out that read gradients",
            )
        return replace(
            found,
            gradient_norms=self._gradients.gradient_norms(layer),
            row_gradients=self._gradients.row_gradients(layer),
        )

    @cached_property
    def _passes(self) -> Passes:
        return Passes(self._job, self._needs)

    @cached_property
    def _gradients(self) -> GradientObserver | CandidateError:
        return _differentiated(self._job, self._needs)


def calibrate(job: Job, choices: Sequence[Choice]) -> Calibration:
    """Prepare to observe what the chosen levels' methods will ask for."""
    return Calibration(job, choices)


def _differentiated(
    job: Job, needs: Mapping[str, Collection[str]]
) -> GradientObserver | CandidateError:
    """Differentiate the model by its layers; where torch cannot, a note, and why."""
    wanted = [la for la in job.graph.layers if FROM_GRADIENTS & set(needs.get(la.name, ()))]
    keep = [layer.name for layer in wanted if "row_gradients" in needs[layer.name]]
    data = first_rows(job.calibration, GRADIENT_ROWS)
    at_once = job.evaluation_batch if job.has_fixed_batch else _GRADIENT_BATCH
    try:
        with failures_told():
            gradients = GradientObserver(job.graph, wanted, keep=keep)
            for batch, real in batches(data.inputs, at_once):
                rows = at_once if job.has_fixed_batch else real
                gradients.observe({name: values[:rows] for name, values in batch.items()})
    except (CandidateError, DataError) as error:
        job.engines.progress.note(f"no gradients: {error.message}")
        return CandidateError(error.message)
    return_freed_memory()
    return gradients


def _needs(choices: Sequence[Choice]) -> dict[str, set[str]]:
    """Layer -> statistics that the methods of its levels read."""
    needs: dict[str, set[str]] = {}
    for choice in choices:
        wanted = statistics_read(choice)
        if wanted:
            needs.setdefault(choice.layer.name, set()).update(wanted)
    return needs
