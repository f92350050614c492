"""The queue: who takes what, leases, crashes, cancelling. Each event and each trial once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api import runner
from api.job_ledger import JobLease, LeaseLostError, make_lane, take_job
from autosparse.levels import Recipe
from tests.api.postgres import Postgres
from tests.api.queue_world import RESULT, QueueWorld, record, trial

NUMBERS = itertools.count()
STAGE = {"kind": "stage", "stage": "search", "detail": "evolution"}


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueWorld]:
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").url(f"queue{next(NUMBERS)}")
    made = QueueWorld(tmp_path / "home", url)
    yield made
    made.database.close()


def assert_no_gap(world: QueueWorld, job: str) -> None:
    sequences = [event.sequence for event in world.events(job)]
    assert sequences == list(range(1, len(sequences) + 1))
    assert world.row(job).events == len(sequences)


def test_a_job_runs_to_its_verdict(world: QueueWorld) -> None:
    job = world.job([STAGE, trial(1), {"kind": "step", "done": 1, "total": 2}, trial(2), RESULT])
    with world.running():
        assert world.ended(job) == ["finished"]
    row = world.row(job)
    assert row.verdict == "met"
    assert row.manifest == RESULT["manifest"]
    assert row.best_recipe == "recipe2"
    assert (row.runner, row.lease_until) == (None, None)
    assert [e.kind for e in world.events(job)] == [
        "state", "state", "stage", "trial", "trial", "state",
    ]  # fmt: skip
    assert world.states(job) == ["queued", "running", "finished"]
    assert_no_gap(world, job)


def test_one_job_at_a_time_on_a_device(world: QueueWorld) -> None:
    """Two runners, one lane: no two jobs between running and finished."""
    jobs = [world.job([trial(1), RESULT]) for _ in range(6)]
    with world.running(world.runner(), world.runner()):
        assert set(world.ended(*jobs)) == {"finished"}
    changes = sorted(
        (event.id, event.data["state"])
        for job in jobs
        for event in world.events(job)
        if event.kind == "state" and event.data["state"] != "queued"
    )
    assert [state for _, state in changes] == ["running", "finished"] * 6
    assert all(world.states(job) == ["queued", "running", "finished"] for job in jobs)


def test_devices_work_side_by_side(world: QueueWorld) -> None:
    first, second = (world.job(["go", RESULT]) for _ in range(2))
    with world.running(world.runner(device="one"), world.runner(device="two")):
        world.until(lambda: {world.row(j).state for j in (first, second)} == {"running"})
        for job in (first, second):
            (world.files.job(job) / "go").touch()
        assert world.ended(first, second) == ["finished", "finished"]


def test_priorities_come_first_then_age(world: QueueWorld) -> None:
    jobs = {name: world.job([RESULT], priority=p) for name, p in (("a", 0), ("b", 5), ("c", 0))}
    make_lane(world.database, "bench")
    taken = []
    for _ in jobs:
        lease = take_job(world.database, "me", "bench", 30.0, 5)
        assert lease is not None
        taken.append(lease.job_id)
        lease.end("finished")
    assert taken == [jobs["b"], jobs["a"], jobs["c"]]


def test_a_job_whose_process_dies_goes_on(world: QueueWorld) -> None:
    """Trials that were told before are told again by the next process, and stored once."""
    known = {"kind": "known", "records": [record(1), record(2)]}
    job = world.job([trial(1), "torn", "die"], [known, trial(2), trial(3), RESULT])
    with world.running():
        assert world.ended(job) == ["finished"]
    assert world.trials(job) == ["recipe1", "recipe2", "recipe3"]
    assert world.states(job) == ["queued", "running", "queued", "running", "finished"]
    assert [e.data["number"] for e in world.events(job) if e.kind == "trial"] == [1, 2, 3]
    assert_no_gap(world, job)


def test_words_that_no_process_of_ours_says(tmp_path: Path) -> None:
    """A process that reads models may have been taken over: it is ended, and the runner goes on."""
    words = (
        "nonsense", "[" * 100_000, '{"kind": "trial", "record": {"evidence": 1}, "best": null}',
        '{"kind": "outcome", "owner": "key_other"}', f'{{"kind": "{"x" * 99}"}}',
    )  # fmt: skip
    world = QueueWorld(tmp_path / "home")
    attempts = [[trial(n), f"say {each}", "hang"] for n, each in enumerate(words)]
    job = world.job(*attempts, [RESULT])
    with world.running():
        assert world.ended(job) == ["finished"]
    assert len(world.trials(job)) == len(words)
    assert world.states(job).count("running") == len(words) + 1
    assert_no_gap(world, job)
    world.database.close()


def test_a_job_that_never_answers_fails_at_last(world: QueueWorld) -> None:
    job = world.job(["die"])
    with world.running(world.runner(max_attempts=3)):
        assert world.ended(job) == ["failed"]
    row = world.row(job)
    assert row.attempts == 3
    assert row.problem is not None
    assert "without an answer" in row.problem["detail"]


def test_a_job_that_gets_ahead_may_die_more_often(world: QueueWorld) -> None:
    job = world.job(*([trial(n), "die"] for n in range(4)), [RESULT])
    with world.running(world.runner(max_attempts=2)):
        assert world.ended(job) == ["finished"]
    assert len(world.trials(job)) == 4


def test_what_the_intake_refuses_late_fails(world: QueueWorld) -> None:
    problem = {"type": "urn:autosparse:problem:data", "status": 422, "detail": "row 7"}
    job = world.job([{"kind": "failed", "problem": problem}])
    with world.running():
        assert world.ended(job) == ["failed"]
    assert world.row(job).problem == problem


def test_cancelling_stops_the_process_and_keeps_the_best(world: QueueWorld) -> None:
    job = world.job([trial(1), trial(2), "hang"])
    with world.running():
        world.until(lambda: len(world.trials(job)) == 2)
        world.change(job, cancel_requested=True)
        assert world.ended(job) == ["cancelled"]
        after = world.job([RESULT])
        assert world.ended(after) == ["finished"], "the lane is free again"
    best = world.files.job(job) / "best" / "recipe.yaml"
    assert isinstance(Recipe.load(best), Recipe)
    assert world.row(job).best_recipe == "recipe2"


def test_nothing_happens_after_a_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much the job says: its process is ended at the next beat, and nothing more is stored.

    The runner's clock goes on by a tenth of a second whenever it is looked at.
    """
    world = QueueWorld(tmp_path / "home")
    job = world.job([*(trial(n) for n in range(1, 200)), "hang"])
    clock, happened, before = itertools.count(), list[object](), children()
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(clock) / 10))
    store, beat, end = JobLease.trial, JobLease.beat, JobLease.end

    def stored(self: JobLease, record: dict[str, Any], best: str | None) -> None:
        store(self, record, best)
        happened.append("trial")
        if happened.count("trial") == 2:
            world.change(job, cancel_requested=True)
            happened.append("asked")

    def beaten(self: JobLease, *given: Any) -> bool:
        is_cancelled = beat(self, *given)
        happened.extend(["seen"] if is_cancelled else [])
        return is_cancelled

    def ended(self: JobLease, *given: Any, **values: Any) -> None:
        happened.append(children() - before)
        end(self, *given, **values)

    for name, mine in (("trial", stored), ("beat", beaten), ("end", ended)):
        monkeypatch.setattr(JobLease, name, mine)
    with world.running():
        assert world.ended(job) == ["cancelled"]
    asked, seen = happened.index("asked"), happened.index("seen")
    assert happened[asked + 1 : seen] == ["trial"] * (seen - asked - 1)
    assert seen - asked <= 10, "a beat is a second, and each line takes a tenth of one or more"
    assert happened[seen + 1 :] == [set()], "no process of the job is left when its end is told"
    assert len(world.trials(job)) == happened.count("trial") < 199
    world.database.close()


def test_a_silent_runner_loses_its_job(world: QueueWorld) -> None:
    """It is taken from where it is, and what the first one stores later is refused."""
    job = world.job([RESULT])
    make_lane(world.database, "bench")
    lost = take_job(world.database, "silent", "bench", -1.0, 5)
    assert lost is not None
    lost.trial(record(1), None)
    taken = take_job(world.database, "other", "bench", 30.0, 5)
    assert taken is not None
    assert taken.job_id == job
    for store in (
        lambda: lost.beat(30.0, None),
        lambda: lost.event("note", {"text": "late"}),
        lambda: lost.trial(record(2), None),
        lambda: lost.end("finished"),
    ):
        with pytest.raises(LeaseLostError):
            store()
    taken.trial(record(1), None)
    taken.end("finished", verdict="met")
    assert world.trials(job) == ["recipe1"]
    assert world.states(job) == ["queued", "running", "running", "finished"]


def test_a_job_that_is_held_is_not_taken(world: QueueWorld) -> None:
    world.job([RESULT])
    world.job([RESULT])
    make_lane(world.database, "bench")
    assert take_job(world.database, "one", "bench", 30.0, 5) is not None
    assert take_job(world.database, "two", "bench", 30.0, 5) is None
    assert take_job(world.database, "two", "elsewhere", 30.0, 5) is None, "it has no lane"


def test_a_runner_that_stops_gives_its_job_back(world: QueueWorld) -> None:
    job = world.job([trial(1), "hang"], [RESULT])
    with world.running():
        world.until(lambda: len(world.trials(job)) == 1)
    assert world.row(job).state == "queued"
    assert world.row(job).attempts == 0
    with world.running():
        assert world.ended(job) == ["finished"]


def test_the_process_ends_with_its_runner(world: QueueWorld) -> None:
    job = world.job(["hang"])
    before = children()
    with world.running():
        world.until(lambda: world.row(job).state == "running" and bool(children() - before))
    world.until(lambda: not children() - before)


def children() -> set[int]:
    """Living children of this process."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] not in "ZX":
            found.add(int(path.parent.name))
    return found


def test_a_clock_that_is_wrong_takes_nobodys_job(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is an hour fast takes nothing, and one that is an hour slow loses nothing."""
    world = QueueWorld(tmp_path / "home", postgres.url(f"queue{next(NUMBERS)}"))
    world.job([RESULT])
    make_lane(world.database, "bench")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600.0)
    lease = take_job(world.database, "slow", "bench", 30.0, 5)
    assert lease is not None
    lease.beat(30.0, None)
    monkeypatch.setattr(time, "time", lambda: real() + 3600.0)
    assert take_job(world.database, "quick", "bench", 30.0, 5) is None
    lease.end("queued", wait_seconds=60.0)
    assert take_job(world.database, "quick", "bench", 30.0, 5) is None, "it waits"
    world.database.close()


def test_many_writers_lose_nothing(world: QueueWorld) -> None:
    """Events of one job from several threads: no sequence twice, none missing."""
    job = world.job([RESULT])
    make_lane(world.database, "bench")
    lease = take_job(world.database, "one", "bench", 60.0, 5)
    assert lease is not None

    def write(start: int) -> None:
        for number in range(start, start + 10):
            lease.event("note", {"text": str(number)})
            lease.trial(record(number % 25), None)

    threads = [threading.Thread(target=write, args=(n * 10,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_no_gap(world, job)
    texts = {event.data["text"] for event in world.events(job) if event.kind == "note"}
    assert texts == {str(number) for number in range(50)}
    assert len(world.trials(job)) == len(set(world.trials(job))) == 25


def test_a_database_that_restarts_costs_time_only(postgres: Postgres, tmp_path: Path) -> None:
    """Twelve jobs, two runners, and the database gone in the middle."""
    world = QueueWorld(tmp_path / "home", postgres.url("restarted"), lease_seconds=3.0)
    steps = [trial(1), "go", trial(2), RESULT]
    known = [{"kind": "known", "records": [record(1)]}, trial(2), RESULT]
    jobs = [world.job(steps, known) for _ in range(12)]
    with world.running(world.runner(device="one"), world.runner(device="two")):
        world.until(lambda: sum(len(world.trials(job)) for job in jobs) >= 2)
        postgres.stop()
        postgres.start()
        for job in jobs:
            (world.files.job(job) / "go").touch()
        assert set(world.ended(*jobs)) == {"finished"}
    for job in jobs:
        assert world.trials(job) == ["recipe1", "recipe2"]
        assert_no_gap(world, job)
        told = [e.data["number"] for e in world.events(job) if e.kind == "trial"]
        assert told == [1, 2]
    world.database.close()
