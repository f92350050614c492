"""The workshop: where weights become files, and files become answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from autosparse.datasets import Dataset
from autosparse.evaluation import Backend, LoweredModel
from autosparse.evaluation.answers import Answers, Batch, answered
from autosparse.evaluation.metrics import Floats, Metric, default_metric
from autosparse.evaluation.quality import row_scores
from autosparse.evaluation.sample import Sample
from autosparse.heap import return_freed_memory
from autosparse.levels import Level
from autosparse.model_graph import ModelGraph
from autosparse.pipeline.workspace import empty_directory

Plans = Mapping[tuple[str, Level], str]
"""(layer, level without its method) -> one of the backend's plans."""


class Place(Protocol):
    """Where recipes are lowered: a job, or a workshop without one."""

    @property
    def graph(self) -> ModelGraph:
        """The dense model."""

    @property
    def backend(self) -> Backend:
        """What lowers."""

    @property
    def recovered(self) -> Path:
        """Where the weights of recovered recipes lie."""

    @property
    def architecture(self) -> str:
        """Of the device that runs the files; empty for this machine's."""

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of one inference on the target."""

    @property
    def tuning_trials(self) -> int:
        """For each loop nest that a backend compiles and has no kernel for."""

    @property
    def plans(self) -> Plans:
        """Of layers that the backend is to compute in another way than as usual."""

    def scratch(self, name: str) -> Path:
        """An empty directory for files that are made again when they are needed again."""


@dataclass(frozen=True)
class Workshop:
    """The part of a job that any process may have: it neither times anything nor keeps a log."""

    graph: ModelGraph
    backend: Backend
    files: Path
    """Where scratch directories lie."""
    batch: int
    """Rows per inference where latency is not asked for."""
    recovered: Path
    """Where the weights of recovered recipes lie, for whoever sees the job's files."""
    architecture: str = ""
    """Of the device that runs the files; empty for this machine's."""
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of one inference on the target."""
    tuning_trials: int = 0
    """For each loop nest that a backend compiles and has no kernel for."""
    plans: Plans = field(default_factory=dict)
    """Of layers that the backend is to compute in another way than as usual."""

    def at(self, files: Path) -> Workshop:
        """The same with scratch directories elsewhere: two processes must not share them."""
        return replace(self, files=files)

    def scratch(self, name: str) -> Path:
        """An empty directory for files that are made again when they are needed again."""
        return empty_directory(self.files / name)

    def answers(self, model: LoweredModel, data: Dataset) -> Iterator[Batch]:
        """Run a file over data, on every core this process may use, batch by batch."""
        runner = self.backend.open(model, threads=len(os.sched_getaffinity(0)))
        yield from answered(runner, data, self.batch)
        del runner  # and all its memory, before the next file is opened
        return_freed_memory()

    def scores(
        self, model: LoweredModel, data: Dataset, metrics: Sequence[Metric], dense: Answers
    ) -> list[Floats]:
        """A file's scores by each metric, (rows,); none of its answers is kept.

        Args:
            model: the file.
            data: the rows.
            metrics: what judges them.
            dense: the dense model's answers to them.
        """
        return row_scores(self.answers(model, data), metrics, data, dense)

    def divergence(self, model: LoweredModel, sample: Sample) -> float:
        """How far a file's answers are from the dense model's; needs no labels."""
        (scores,) = self.scores(model, sample.rows, (self.divergence_metric,), sample.outputs)
        return sample.mean(scores)

    @property
    def divergence_metric(self) -> Metric:
        """What measures the distance from the dense model."""
        return default_metric(tuple(spec.name for spec in self.graph.outputs), labelled=False)
