"""From Python, too, a job can be asked for its answer at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import autosparse
import workers.local
from autosparse.artifacts.bundle import check_bundle
from autosparse.evaluation import Target, Verdict
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.progress import Progress, Silent
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


class Impatient(Silent):
    """Does not want to wait for another trial after some."""

    def __init__(self, answer_now: Event, patience: int) -> None:
        self.seen = 0
        self._answer_now, self._patience = answer_now, patience

    def trial(self, *_: object) -> None:
        self.seen += 1
        if self.seen == self._patience:
            self._answer_now.set()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World.make(tmp_path, 6, Planted(layer_seconds, summed_error({"layer1": 0.5})))

    @contextmanager
    def engines(target: Target, progress: Progress) -> Iterator[Engines]:
        yield replace(made.engines(), progress=progress)

    monkeypatch.setattr(workers.local, "local_engines", engines)
    return made


@pytest.fixture
def at_once() -> Event:
    """Nobody waits at all."""
    event = Event()
    event.set()
    return event


def fields(world: World, **more: Any) -> dict[str, Any]:
    return world.config().model_dump(mode="json", exclude_unset=True) | more


def trials(result: Result | None) -> int:
    assert result is not None
    check_bundle(Path(result.bundle))
    return result.manifest.search.trials


def test_a_job_is_answered_when_the_event_is_set(world: World) -> None:
    answer_now = Event()
    watching = Impatient(answer_now, 4)
    found = autosparse.optimize(**fields(world), progress=watching, answer_now=answer_now)
    assert found.verdict is Verdict.MET
    assert 4 <= watching.seen < 25
    assert trials(autosparse.optimize(**fields(world), resume=True)) > trials(found)


def test_all_jobs_of_a_ladder_are(world: World, at_once: Event) -> None:
    asked = fields(world, latency_budget=["80%", "60%"], trials=6)
    found = autosparse.ladder(**asked, answer_now=at_once)
    assert len(found.answers) == 2
    assert all(trials(answer.result) < 6 for answer in found.answers)


def test_another_budget_is(world: World, at_once: Event) -> None:
    first = world.run(trials=6, latency_budget="80%")
    asked = {"latency_budget": "61%", "output_dir": world.root / "new"}
    found = autosparse.resolve(world.root / "out", **asked, answer_now=at_once)
    assert trials(found) == trials(first), "nothing further is measured"
