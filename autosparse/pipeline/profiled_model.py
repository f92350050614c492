"""A model on a target, ready to be timed outside a job."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autosparse.datasets import Dataset, batches, load_dataset
from autosparse.evaluation import LoweredModel, Target
from autosparse.evaluation.backend import Array
from autosparse.model_graph import ModelGraph, load_model
from autosparse.pipeline.benchmark_inputs import random_inputs
from autosparse.pipeline.config import ProfileConfig
from autosparse.pipeline.job import Engines, first_rows, fit, target_of, write_timing_inputs
from autosparse.pipeline.stopwatch import Stopwatch

_ROWS = 64


@dataclass(frozen=True)
class ProfiledModel:
    """What every measurement of one model shares."""

    path: Path
    graph: ModelGraph
    target: Target
    engines: Engines
    inferences: tuple[Mapping[str, Array], ...]
    """Inputs of some inferences in the target's shapes; the first are those that are timed."""
    inputs_words: str
    """Where the inputs come from, for people."""
    scratch: Path
    """Directory for files that nobody needs afterwards."""

    @property
    def inputs(self) -> Path:
        """One inference's inputs, for timing."""
        return self.scratch / "timing_inputs.npz"

    @property
    def original(self) -> LoweredModel:
        """The file as it came."""
        path = self.path.absolute()
        return LoweredModel(path.parent, path.name)

    @property
    def stopwatch(self) -> Stopwatch:
        """What times files in the target's shapes."""
        return Stopwatch(self.engines.lane, self.engines.progress, self.target, self.inputs)


@contextmanager
def profiled_model(config: ProfileConfig, engines: Engines) -> Iterator[ProfiledModel]:
    """Load and check what was given; scratch files go at the end.

    Raises:
        UserInputError: the model, the target or the calibration file is wrong.
    """
    engines.progress.stage("intake", config.model.name)
    graph = load_model(config.model)
    target = target_of(config).for_model(graph).on(engines.lane.environment())
    if config.calibration is None:
        data = random_inputs(graph, target)
        inferences: tuple[Mapping[str, Array], ...] = (data.inputs,)
        words = "random numbers"
    else:
        data = load_dataset(config.calibration, graph.inputs, "calibration")
        inferences = _in_target_shapes(data, target)
        words = f"rows of {config.calibration.name}"
    for node, reason in graph.skipped.items():
        engines.progress.note(f"{node} is no layer: {reason}")
    with tempfile.TemporaryDirectory(prefix="autosparse-") as scratch:
        model = ProfiledModel(
            path=config.model, graph=graph, target=target, engines=engines,
            inferences=inferences, inputs_words=words, scratch=Path(scratch),
        )  # fmt: skip
        write_timing_inputs(model.inputs, Dataset(inputs=inferences[0]), target)
        yield model


def _in_target_shapes(data: Dataset, target: Target) -> tuple[Mapping[str, Array], ...]:
    rows = first_rows(data, max(_ROWS, target.batch_size)).inputs
    return tuple(
        {name: fit(batch[name], shape) for name, shape in target.input_shapes.items()}
        for batch, _ in batches(rows, target.batch_size)
    )
