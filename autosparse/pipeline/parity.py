"""Parity: does the torch executor compute what the runtime computes, on real inputs?

Methods that need gradients run the model graph with torch; what is shipped runs in the runtime.
Where the two disagree, or torch cannot run the graph, or the model is too large to be compared, the
job goes on with what needs no torch: levels whose methods read gradients are refused
(`missing_statistics.py`), nothing is corrected, nothing is trained.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from autosparse.errors import CandidateError, MeasurementError
from autosparse.evaluation.answers import run_dataset
from autosparse.evaluation.backend import Array
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.agreement import TOLERANCE, relative_error
from autosparse.model_graph.torch_executor import (
    GraphModule,
    failures_told,
    unsupported_operators,
)
from autosparse.pipeline.job import Job, first_rows

_ROWS = 8
_LARGEST_BYTES = 1 << 30
_NO_GRADIENTS = "methods that need gradients are not available"


@dataclass(frozen=True)
class Parity:
    """What the comparison came to."""

    relative_error: float | None
    """Distance of the worst output from the runtime's, over its norm; None where torch did not
    run the graph."""
    note: str
    """The finding, in a sentence that may follow a colon."""

    @property
    def holds(self) -> bool:
        """Whether the torch executor can stand for the runtime."""
        return self.relative_error is not None and self.relative_error <= TOLERANCE


def check_parity(job: Job) -> Parity:
    """Run a few calibration rows through both engines, and note what was found."""
    parity = _compare(job)
    job.engines.progress.note(_told(parity))
    return parity


def _told(parity: Parity) -> str:
    """The finding with what follows from it; engines that disagree are worth a warning."""
    if parity.holds:
        return parity.note
    warning = "" if parity.relative_error is None else "warning: "
    return f"{warning}{_NO_GRADIENTS}: {parity.note}"


def _compare(job: Job) -> Parity:
    size = _weight_bytes(job.graph)
    if size > _LARGEST_BYTES:
        held = f"{size / 2**30:.1f} GiB of weights"
        return Parity(None, f"parity of torch and the runtime is not checked: {held}")
    missing = unsupported_operators(job.graph)
    if missing:
        return Parity(None, f"the torch executor misses {'; '.join(missing)}")
    rows = first_rows(job.calibration, _ROWS)
    # where the batch is free, no row is computed only to fill one up
    batch = job.evaluation_batch if job.has_fixed_batch else len(rows)
    threads = len(os.sched_getaffinity(0))
    runner = job.engines.backend.open(job.original, threads=threads)
    expected = run_dataset(runner, rows, batch).values
    try:
        with failures_told():
            found = run_dataset(_TorchRunner(job.graph), rows, batch).values
    except MeasurementError as error:  # its answers do not come row by row
        return Parity(None, f"the torch executor fails: {error.message}")
    except CandidateError as error:
        return Parity(None, error.message)
    return _judge(relative_error(found, expected))


def _judge(error: float) -> Parity:
    if error <= TOLERANCE:
        return Parity(error, f"torch executor agrees with the runtime: relative error {error:.1e}")
    told = f"the torch executor disagrees with the runtime, relative error {error:.1e}"
    return Parity(error, told)


class _TorchRunner:
    """Runs the model graph with torch, as a runtime would."""

    def __init__(self, graph: ModelGraph) -> None:
        self._module = GraphModule.from_graph(graph)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference."""
        with torch.inference_mode():
            outputs = self._module({name: torch.tensor(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def _weight_bytes(graph: ModelGraph) -> int:
    constants = (value.const_value for value in graph.model.graph.initializers.values())
    return sum(constant.nbytes for constant in constants if constant is not None)
