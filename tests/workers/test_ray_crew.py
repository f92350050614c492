"""The crew of Ray's actors, where what Ray does is played."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import pytest

from workers.dispatcher import Died, Ended
from workers.ray_pool import RayCrew
from workers.ray_session import RaySession

NOTHING: Any = None
"""A task, which nobody looks at."""


@dataclass
class PlayedSession:
    """A session whose daemon can be killed, in which nothing runs."""

    workers: int = 2
    is_own: bool = True
    cores: tuple[int, ...] = (0, 1)
    alive: bool = True
    generation: int = 0

    def start(self) -> None:
        pass

    def is_alive(self) -> bool:
        return self.alive

    def restart(self) -> None:
        self.alive = True
        self.generation += 1


class PlayedCrew(RayCrew):
    """Hands out tasks that never end."""

    def __init__(self, session: PlayedSession) -> None:
        super().__init__(cast(RaySession, session))
        self._answers = itertools.count()

    def _send(self, worker: int, task: Any) -> Any:
        return next(self._answers)


def nothing_ends(refs: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
    return [], refs


def test_a_worker_that_was_replaced_is_not_lost_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both hang when Ray is killed: the first that is replaced finds out for both."""
    monkeypatch.setattr("workers.ray_pool.ray.wait", nothing_ends)
    session = PlayedSession()
    crew = PlayedCrew(session)
    for worker in range(2):
        crew.start(worker, NOTHING)
    session.alive = False
    for worker in range(2):
        crew.replace(worker)
        crew.start(worker, NOTHING)
    assert session.generation == 1
    assert crew.wait(1.0) == []


def test_all_are_lost_where_the_daemon_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.ray_pool.ray.wait", nothing_ends)
    session = PlayedSession()
    crew = PlayedCrew(session)
    for worker in range(2):
        crew.start(worker, NOTHING)
    session.alive = False
    lost = [Ended(worker, Died("Ray was killed")) for worker in range(2)]
    assert crew.wait(1.0) == lost
    session.alive = True
    assert crew.wait(1.0) == []
