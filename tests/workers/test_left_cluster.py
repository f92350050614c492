"""A device that leaves the cluster while a job measures on it; what Ray says is played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from autosparse.errors import KilledError, WorkerError
from autosparse.evaluation import LoweredModel, Target
from workers.messages import Reply
from workers.ray_lane import RayLane
from workers.ray_session import RaySession, load_ray

TARGET = Target(input_shapes={"image": (2, 3, 8, 8)})
DEVICE, DRIVER = "d" * 56, "e" * 56
ERRORS = load_ray().exceptions


@dataclass
class JoinedSession:
    """A cluster that is looked after by others."""

    is_own: bool = False
    generation: int = 0
    cores: tuple[int, ...] = (0,)

    def start(self) -> None:
        pass

    def is_alive(self) -> bool:
        return True


@dataclass
class PlayedRay:
    """Implements what a lane uses of `ray`, on one device that may leave."""

    is_there: bool = True
    keepers_die: bool = False
    hired: list[dict[str, Any]] = field(default_factory=list)

    def remote(self, kind: type) -> PlayedActors:
        return PlayedActors(self)

    def get(self, asked: str, timeout: float | None = None) -> Any:
        if not self.is_there:
            raise ERRORS.ActorUnschedulableError("the node does not exist any more")
        if asked == "node":
            return DEVICE
        if self.keepers_die:
            raise ERRORS.ActorDiedError
        return Reply(node_times=())

    def wait(self, asked: Sequence[str], timeout: float) -> tuple[Sequence[str], Sequence[str]]:
        return asked, []

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": DRIVER, "Alive": True},
            {"NodeID": DEVICE, "Alive": self.is_there},
        ]

    def get_runtime_context(self) -> PlayedRay:
        return self

    def get_node_id(self) -> str:
        return DRIVER

    def kill(self, keeper: PlayedKeeper) -> None:
        pass


@dataclass
class PlayedActors:
    of: PlayedRay

    def options(self, **options: Any) -> PlayedActors:
        self.of.hired.append(options)
        return self

    def remote(self, cores: Sequence[int]) -> PlayedKeeper:
        return PlayedKeeper()


@dataclass
class Method:
    name: str

    def remote(self, *given: object) -> str:
        return self.name


class PlayedKeeper:
    node = Method("node")
    ask = Method("ask")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> PlayedRay:
    cluster = PlayedRay()
    monkeypatch.setattr("workers.ray_lane.ray", cluster)
    return cluster


@pytest.fixture
def lane() -> RayLane:
    return RayLane(cast(RaySession, JoinedSession()))


def test_a_device_that_left_ends_the_job_and_fails_no_candidate(
    played: PlayedRay, lane: RayLane, model: LoweredModel, inputs: Path
) -> None:
    assert lane.profile(model, inputs, TARGET, runs=1) == ()
    played.is_there = False
    with pytest.raises(WorkerError, match="left the cluster") as caught:
        lane.profile(model, inputs, TARGET, runs=1)
    assert "--resume" in caught.value.hint
    # it was asked for there, and nowhere else
    assert played.hired[-1]["scheduling_strategy"].node_id == DEVICE


def test_a_keeper_that_dies_on_a_device_that_is_there_is_the_measurements_failure(
    played: PlayedRay, lane: RayLane, model: LoweredModel, inputs: Path
) -> None:
    played.keepers_die = True
    with pytest.raises(KilledError, match="was killed 3 times"):
        lane.profile(model, inputs, TARGET, runs=1)
    assert len(played.hired) == 3
    played.keepers_die = False
    assert lane.profile(model, inputs, TARGET, runs=1) == ()
