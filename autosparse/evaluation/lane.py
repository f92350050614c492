"""The contract of a measurement lane: the exclusive place where files are timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from autosparse.evaluation.backend import LoweredModel, NodeTime
from autosparse.evaluation.environment import Environment
from autosparse.evaluation.measurement import Measurement
from autosparse.evaluation.target import Target
from autosparse.evaluation.timing import TimingSettings


class MeasurementLane(Protocol):
    """Times files on a target; nothing else runs on its cores meanwhile."""

    def environment(self) -> Environment:
        """The machine that measures, with its libraries: what its seconds belong to.

        Raises:
            WorkerError: it is another machine, and cannot be reached.
        """

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        """Time all files interleaved in one run.

        Args:
            files: label -> files to open.
            inputs: npz with one inference's inputs, by input name.
            target: backend, threads and shapes.
            settings: how long and how often.
            fresh: open them in a process that has run nothing before.

        Raises:
            MeasurementError: a file could not be opened or run, crashed the process, hung, or no
                round was undisturbed.
        """

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        """Time every node of one file, as the runtime executes it.

        Raises:
            MeasurementError: as for `measure`.
        """

    def close(self) -> None:
        """End whatever processes the lane holds."""
