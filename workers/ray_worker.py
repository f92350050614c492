"""What runs inside Ray's processes: an evaluation worker, and the keeper of a measurement lane."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autosparse.pipeline.pool import Kit, Task, attempt
from workers.isolated_lane import IsolatedLane
from workers.messages import MeasureRequest, ProfileRequest, Reply
from workers.parcel import Parcel


@dataclass(frozen=True)
class Raised:
    """Something unexpected that happened in another process; raised again in the driver."""

    error: Exception


class EvaluationWorker:
    """An actor: holds one kit, and does one task at a time with it.

    Args:
        number: which of the workers it is.
        cores: where it stays; empty for wherever the system likes.
        directory: the driver's working directory. A user's own metric is imported from there; it
            is the last place to look, so that nothing there shadows anything.
    """

    def __init__(self, number: int, cores: Sequence[int], directory: str) -> None:
        import torch

        self._number = number
        if cores:
            os.sched_setaffinity(0, set(cores))
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        if directory not in sys.path:
            sys.path.append(directory)
        self._kit: Kit | None = None
        self._kit_number = -1
        self._own = tempfile.TemporaryDirectory(prefix="autosparse-")

    def is_ready(self) -> bool:
        """True, as soon as it can be said."""
        return True

    def work(
        self, kit_number: int, kits: list[Any], sees_files: bool, task: Task[Any, Any]
    ) -> object:
        """Do a task; the kit is fetched when it is another one than the last task's.

        Args:
            kit_number: tells kits apart.
            kits: one reference to the kit, in a list so that Ray leaves it as it is.
            sees_files: whether the kit's own directory is there.
            task: what to do.
        """
        try:
            if kit_number != self._kit_number:
                import ray

                self._kit = None
                kit: Kit = ray.get(kits[0])
                own = f"worker-{self._number}"
                self._kit = kit.at((kit.files if sees_files else Path(self._own.name)) / own)
                self._kit_number = kit_number
            return attempt(task, self._kit)
        except Exception as error:  # it must not look like a worker that died
            return Raised(error)


class LaneKeeper:
    """An actor that has a device for itself, and a measurement lane in a process beside it.

    Args:
        cores: those that the lane may choose from; empty for all of the device's.
    """

    def __init__(self, cores: Sequence[int]) -> None:
        if cores:
            os.sched_setaffinity(0, set(cores))
        self._lane = IsolatedLane()

    def node(self) -> str:
        """Which of the cluster's machines it is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def ask(
        self,
        request: MeasureRequest | ProfileRequest,
        parcel: Parcel | None,
        limit_seconds: float,
        fresh: bool,
    ) -> Reply | Raised:
        """Have the lane answer; the files come along where this machine lacks them."""
        try:
            with tempfile.TemporaryDirectory(prefix="autosparse-") as directory:
                here = request if parcel is None else parcel.unpack(request, Path(directory))
                return self._lane.ask(here, limit_seconds, fresh=fresh)
        except Exception as error:  # it must not look like a keeper that died
            return Raised(error)
