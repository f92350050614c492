"""A lane that measures nothing: an analytic model of a device tells how long files would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autosparse.errors import ConfigError
from autosparse.evaluation import (
    Backend,
    Environment,
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
)
from autosparse.evaluation.backend import NodeTime
from autosparse.evaluation.measurement import Block
from autosparse.evaluation.simulation import Device, NodeWork, TellsWork
from workers.closing import Closing

# What is computed has no noise: as many equal samples as records need to have their usual form.
_SAMPLES = 3


class SimulatedLane(Closing):
    """Implements `autosparse.evaluation.MeasurementLane` without a device.

    What a file would execute is counted by running it once here; how long that takes is not looked
    at.

    Args:
        device: the descriptor.
        backend: what runs the files.

    Raises:
        ConfigError: the backend cannot say what its nodes do.
    """

    def __init__(self, device: Device, backend: Backend) -> None:
        if not isinstance(backend, TellsWork):
            raise ConfigError(
                f"the backend {backend.name} cannot be simulated",
                hint="measure on the device, with `autosparse agent`, or take another backend",
            )
        self._device = device
        self._backend: TellsWork = backend

    def environment(self) -> Environment:
        """The descriptor, which no one can take for a machine."""
        return self._device.environment

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        """Simulate all files; see `MeasurementLane.measure`."""
        return {
            label: self._measurement(label, model, inputs, target, settings)
            for label, model in files.items()
        }

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        """Simulate every node of one file; see `MeasurementLane.profile`."""
        work = self._work(model, inputs)
        seconds = self._device.seconds(work, target.threads)
        operators = {node.node: node.operator for node in work}
        return [
            NodeTime(node=name, operator=operators[name], seconds=took)
            for name, took in seconds.items()
        ]

    def multiplying(self, model: LoweredModel, inputs: Path) -> frozenset[str]:
        """Nodes that multiply by weights or by each other, rather than only move numbers."""
        return frozenset(node.node for node in self._work(model, inputs) if node.dense_macs)

    def close(self) -> None:
        """Nothing is held."""

    def _measurement(
        self,
        label: str,
        model: LoweredModel,
        inputs: Path,
        target: Target,
        settings: TimingSettings,
    ) -> Measurement:
        total = sum(self._device.seconds(self._work(model, inputs), target.threads).values())
        block = Block(samples_seconds=(total,) * _SAMPLES, slowdown=0.0, accepted=True)
        return Measurement(
            label=label, file_sha256=model.sha256(), target=target.name,
            environment=self.environment().id, warmup_runs=0,
            blocks=(block,) * settings.rounds,
        )  # fmt: skip

    def _work(self, model: LoweredModel, inputs: Path) -> Sequence[NodeWork]:
        with np.load(inputs, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return self._backend.node_work(model, arrays)
