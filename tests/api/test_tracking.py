"""A tracking server is told of jobs from the database: late, again or never, and no job notices."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from api import tracking
from api.deliverables import Deliverable
from api.event_hub import EventHub
from api.inspection import Inspector
from api.mlflow_runs import load_mlflow
from api.service import Service
from api.settings import read_settings
from api.tables import JobRow, TrackedRow, UploadRow
from api.tracked_job import TrackedJob, read_tracked
from api.tracking import RETRY_SECONDS, Tracker
from autosparse.errors import ConfigError, NotInstalledError, ServiceError
from tests.api.live_service import LIMITS
from tests.api.queue_world import RESULT, QueueWorld, trial

A_DAY = 86400.0


class Server:
    """A tracking server that remembers what it was told."""

    def __init__(self) -> None:
        self.stories: list[TrackedJob] = []
        self.files: list[set[str]] = []
        self.asked = 0
        self.most_trials = 1000
        self.meanwhile: Callable[[], None] = lambda: None

    def record(self, job: TrackedJob, files: Mapping[str, Deliverable]) -> bool:
        self.asked += 1
        self.meanwhile()
        self.stories.append(job)
        self.files.append(set(files))
        return len(job.trials) <= self.most_trials

    def go_away(self) -> None:
        def refuse() -> None:
            raise ServiceError("nobody there, says http://tracking.internal")

        self.meanwhile = refuse

    def come_back(self) -> None:
        self.meanwhile = lambda: None


class TrackedWorld:
    """Jobs, a tracking server, and a clock that tests turn."""

    def __init__(self, home: Path) -> None:
        self.queue = QueueWorld(home)
        self.server = Server()
        self.now = 1_795_000_000.0
        inspector = Inspector(LIMITS, home / "inspector.log", slots=1)
        database = self.queue.database
        hub = EventHub(database)
        self.service = Service(self.queue.settings, database, self.queue.files, inspector, hub)

    def tick(self, later: float = 0.0) -> int:
        """What one of the trackers does after a while; each call asks another one."""
        self.now += later
        return Tracker(self.service, self.server, lambda: self.now).tick()

    def row(self, job: str) -> TrackedRow:
        """How far the server knows a job."""
        with self.queue.database.reading() as session:
            return session.get_one(TrackedRow, job)

    def notes(self, job: str) -> list[str]:
        """What the job's events say besides its states and trials."""
        events = self.queue.events(job)
        return [event.data["text"] for event in events if event.kind == "note"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TrackedWorld]:
    made = TrackedWorld(tmp_path / "home")
    yield made
    made.queue.database.close()


def test_a_job_is_told_once_and_again_when_there_is_news(world: TrackedWorld) -> None:
    job = world.queue.job([trial(1), "go", trial(2), RESULT])
    assert world.tick() == 1
    assert world.server.stories[-1].state == "queued"
    assert world.tick() == 0
    with world.queue.running():
        world.queue.until(lambda: len(world.queue.trials(job)) == 1)
        assert world.tick() == 1
        assert [one.number for one in world.server.stories[-1].trials] == [1]
        (world.queue.files.job(job) / "go").touch()
        assert world.queue.ended(job) == ["finished"]
    assert world.tick() == 1
    story = world.server.stories[-1]
    assert (story.id, story.owner, story.state) == (job, "owner", "finished")
    assert story.finished == world.queue.row(job).finished
    assert story.tags["autosparse.verdict"] == "met"
    assert [one.number for one in story.trials] == [2], "the first one is known"
    assert world.tick(A_DAY) == 0


def test_what_is_told(world: TrackedWorld) -> None:
    """Names and digests in place of ids, defaults besides what was asked, and every bound."""
    job = world.queue.job([trial(1), trial(2), RESULT])
    found: dict[str, Any] = {}
    upload = UploadRow(
        id="mdl_one", owner=world.queue.owner, kind="model", name="resnet.onnx", sha256="ab" * 32,
        size_bytes=1, created=0.0, found=found,
    )  # fmt: skip
    with world.queue.database.writing() as session:
        session.add(upload)
    asked = {"model": "mdl_one", "validation": "dat_gone", "latency_budget": "60%", "name": "mine"}
    world.queue.change(job, request=asked, name="mine")
    with world.queue.running():
        world.queue.ended(job)
    sample = Path(__file__).parents[1] / "compat" / "samples" / "Manifest.v1.json"
    world.queue.change(job, manifest=json.loads(sample.read_text()))
    with world.queue.database.reading() as session:
        story = read_tracked(session, world.queue.row(job))
    assert story.name == "mine"
    expected = {"model": "resnet.onnx", "model_sha256": "ab" * 32, "validation": "dat_gone",
                "latency_budget": "60%", "percentile": "p50", "strategy": "auto"}  # fmt: skip
    assert expected.items() <= story.params.items()
    assert "name" not in story.params
    assert all(story.params.values()), "MLflow has no empty ones"
    found_at_last = {"latency_seconds": 0.00075, "latency_ratio": 0.577, "drop": 0.005,
                     "latency_ratio_low": 0.57, "latency_ratio_high": 0.59, "drop_low": -0.002,
                     "drop_high": 0.011, "baseline_seconds": 0.0013}  # fmt: skip
    assert found_at_last.items() <= story.metrics.items()
    first, second = story.trials
    assert (first.number, second.number, first.is_best) == (1, 2, True)
    assert second.params["recipe_id"] == "recipe2"
    assert second.metrics["latency_ratio"] == 0.58
    assert second.metrics["drop_high"] == 0.011


def test_a_server_that_is_away_is_told_later_and_the_job_says_so_once(world: TrackedWorld) -> None:
    job = world.queue.job([RESULT])
    world.server.go_away()
    assert world.tick() == 0
    (note,) = world.notes(job)
    assert "told later" in note
    assert "internal" not in note, "where the server is, is nobody's business"
    assert world.tick() == 0
    assert world.tick(RETRY_SECONDS[0] - 1.0) == 0
    assert world.server.asked == 1
    world.tick(1.0)
    assert world.server.asked == 2
    assert "nobody there" in world.row(job).problem
    with world.queue.running():
        assert world.queue.ended(job) == ["finished"], "the job does not notice"
    world.server.come_back()
    assert world.tick(RETRY_SECONDS[1]) == 1
    assert world.server.stories[-1].state == "finished"
    assert len(world.notes(job)) == 1
    assert world.row(job).problem == ""


def test_it_is_given_up_until_the_job_has_more_to_tell(world: TrackedWorld) -> None:
    job = world.queue.job([RESULT])
    world.server.go_away()
    for seconds in (0.0, *RETRY_SECONDS):
        world.tick(seconds)
    assert world.server.asked == len(RETRY_SECONDS) + 1
    world.tick(365 * A_DAY)
    assert world.server.asked == len(RETRY_SECONDS) + 1
    assert world.row(job).problem
    world.server.come_back()
    with world.queue.running():
        world.queue.ended(job)
    assert world.tick() == 1


def test_what_was_given_up_is_told_when_there_is_more(world: TrackedWorld) -> None:
    job = world.queue.job([trial(1), "go", RESULT])
    world.server.go_away()
    with world.queue.running():
        world.queue.until(lambda: len(world.queue.trials(job)) == 1)
        for seconds in (0.0, *RETRY_SECONDS):
            world.tick(seconds)
        world.server.come_back()
        assert world.tick(A_DAY) == 0
        (world.queue.files.job(job) / "go").touch()
        assert world.queue.ended(job) == ["finished"]
    assert world.tick() == 1
    assert [one.number for one in world.server.stories[-1].trials] == [1]


def test_where_one_fails_the_others_wait_for_the_next_look(world: TrackedWorld) -> None:
    """A server that answers after ten seconds with nothing is not asked for each of them."""
    jobs = [world.queue.job([RESULT]) for _ in range(3)]
    world.server.go_away()
    world.tick()
    assert world.server.asked == 1
    world.server.come_back()
    assert world.tick() == 2
    assert world.tick(RETRY_SECONDS[0]) == 1
    assert sorted(story.id for story in world.server.stories) == sorted(jobs)


def test_two_servers_do_not_tell_the_same_at_the_same_time(world: TrackedWorld) -> None:
    world.queue.job([RESULT])
    others: list[int] = []

    def meanwhile() -> None:
        world.server.come_back()
        others.append(world.tick())

    world.server.meanwhile = meanwhile
    assert world.tick() == 1
    assert others == [0]


def test_one_that_dies_while_it_tells_is_followed_by_another(world: TrackedWorld) -> None:
    world.queue.job([RESULT])

    def die() -> None:
        raise SystemExit

    world.server.meanwhile = die
    with pytest.raises(SystemExit):
        world.tick()
    world.server.come_back()
    assert world.tick(60.0) == 0, "the other might be alive"
    assert world.tick(300.0) == 1


def test_very_many_trials_are_told_in_parts(world: TrackedWorld) -> None:
    world.server.most_trials = 0
    job = world.queue.job([trial(1), RESULT])
    with world.queue.running():
        world.queue.ended(job)
    assert (world.tick(), world.tick()) == (1, 1)
    world.server.most_trials = 1
    assert (world.tick(), world.tick()) == (1, 0)


def test_a_deleted_job_is_not_waited_for(world: TrackedWorld) -> None:
    job = world.queue.job([RESULT])

    def delete() -> None:
        with world.queue.database.writing() as session:
            session.delete(session.get_one(JobRow, job))

    world.server.meanwhile = delete
    assert world.tick() == 1
    assert world.tick(A_DAY) == 0


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(NotInstalledError, match="'mlflow'") as caught:
        load_mlflow()
    assert "autosparse[mlflow]" in caught.value.hint


def test_only_where_it_is_asked_for(world: TrackedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with tracking.tracking(world.service):
        pass
    with pytest.raises(ConfigError, match="password"):
        read_settings({"mlflow_tracking_uri": "https://me:secret@tracking.example.com"})
