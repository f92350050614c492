"""The measure protocol: a lane is whatever answers the requests of `workers.messages`.

A child process on a pipe, an actor of a cluster, or a device that knows nothing of either: each
implements `ask`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from autosparse.errors import KilledError, MeasurementError
from autosparse.evaluation import (
    Environment,
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
)
from autosparse.evaluation.backend import NodeTime
from workers.closing import Closing
from workers.messages import FileToOpen, MeasureRequest, ProfileRequest, Reply
from workers.quiet_memory import QuietMemory

# Opening a large model, and rounds that overrun: beyond this a measurement hangs.
_GRACE_SECONDS = 120.0
_SECONDS_PER_FILE = 60.0
_PROFILE_SECONDS = 300.0


class AskingLane(Closing):
    """Implements `autosparse.evaluation.MeasurementLane` on top of `ask`.

    Args:
        quiet: what is remembered of the device's quiet state; None for a memory of its own.
    """

    def __init__(self, quiet: QuietMemory | None = None) -> None:
        self._quiet = quiet or QuietMemory()

    @abstractmethod
    def ask(
        self, request: MeasureRequest | ProfileRequest, limit_seconds: float, *, fresh: bool
    ) -> Reply:
        """Have a request answered.

        Args:
            request: with absolute paths of this machine.
            limit_seconds: beyond this, the measurement hangs.
            fresh: in a process that has run nothing before.

        Raises:
            MeasurementError: the files crashed what measures, or it hung.
        """

    @abstractmethod
    def environment(self) -> Environment:
        """Where it measures; see `MeasurementLane.environment`."""

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        """Time all files interleaved; see `MeasurementLane.measure`."""
        environment = self.environment()
        request = MeasureRequest(
            files={label: FileToOpen.of(model) for label, model in files.items()},
            inputs=inputs.resolve(),
            target=target,
            settings=settings,
            quiet=self._quiet.state(environment, target.threads),
        )
        # a round of slow files takes its time, and an interval needs a few of them
        limit = settings.max_seconds + _GRACE_SECONDS + len(files) * _SECONDS_PER_FILE
        reply = self.ask(request, limit, fresh=fresh)
        if reply.measurements is None:
            raise _why_not(reply)
        if reply.quiet is not None:
            self._quiet.add(environment, target.threads, reply.quiet)
        return reply.measurements

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        """Time every node of one file; see `MeasurementLane.profile`."""
        request = ProfileRequest(
            file=FileToOpen.of(model), inputs=inputs.resolve(), target=target, runs=runs
        )
        reply = self.ask(request, _PROFILE_SECONDS, fresh=False)
        if reply.node_times is None:
            raise _why_not(reply)
        return reply.node_times


def _why_not(reply: Reply) -> MeasurementError:
    return (KilledError if reply.killed else MeasurementError)(reply.error)
