"""Schedules against a clock that tests turn: due, missed, overlapping, each run once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api import jobs, schedules
from api.job_kinds import PREPARERS
from api.job_work import WORK
from api.key_ends import revoke_key
from api.submission import accept_job
from api.tables import JobRow, RunRow, ScheduleRow
from autosparse.errors import ConfigError, ConflictError
from tests.api.live_service import LiveService
from tests.api.schedule_world import HOUR, START, ScheduleWorld, delivered_job

NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScheduleWorld]:
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").url(f"schedules{next(NUMBERS)}")
    made = ScheduleWorld(tmp_path / "home", url)
    yield made
    made.queue.database.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[ScheduleWorld]:
    """On SQLite, for what no database has a say in."""
    made = ScheduleWorld(tmp_path / "home")
    yield made
    made.queue.database.close()


def test_both_halves_know_the_same_kinds() -> None:
    assert PREPARERS.keys() == WORK.keys()


def test_a_schedule_runs_when_it_is_due_and_once(world: ScheduleWorld) -> None:
    schedule = world.make()
    assert world.tick(0.5) == 0
    assert world.jobs() == []
    assert world.tick(0.5) == 1
    assert world.tick() == 0
    (job,) = world.jobs()
    assert (job.kind, job.state, job.owner) == ("reverify", "queued", world.queue.owner)
    assert job.config["bundle"] == "given/job_source/bundle"
    (run,) = world.runs(schedule)
    assert (run.state, run.job, run.due, run.missed) == ("queued", job.id, START + HOUR, 0)
    world.do(latency_ratio=0.5)
    assert world.tick(1.0) == 1
    assert [run.state for run in world.runs(schedule)] == ["finished", "queued"]


# at 01:00, 02:00, 03:00 and 04:00 it was due; the clock shows 04:30, or half a minute past four
LATE, IN_TIME = 4.5, 4.0 + 30 / HOUR
MISSED = [
    ("skip", "skip", LATE, [("missed", 1, 3)]),
    ("skip", "skip", IN_TIME, [("missed", 1, 2), ("queued", 4, 0)]),
    ("once", "skip", LATE, [("queued", 4, 3)]),
    ("once", "skip", IN_TIME, [("queued", 4, 3)]),
    ("all", "queue", LATE, [("queued", number, 0) for number in (1, 2, 3, 4)]),
]  # fmt: skip


@pytest.mark.parametrize(("missed", "overlap", "hours", "expected"), MISSED)
def test_what_was_due_while_the_service_was_down(
    plain: ScheduleWorld, missed: str, overlap: str, hours: float, expected: list[Any]
) -> None:
    schedule = plain.make(missed=missed, overlap=overlap)
    begun = plain.tick(hours)
    found = [(run.state, (run.due - START) / HOUR, run.missed) for run in plain.runs(schedule)]
    assert found == expected
    assert begun == len(plain.jobs()) == sum(state == "queued" for state, _, _ in expected)
    assert plain.tick(5.0 - hours) == (0 if overlap == "skip" and begun else 1)


def test_of_very_many_the_last_are_made_up_for(plain: ScheduleWorld) -> None:
    schedule = plain.make("* * * * *", missed="all", overlap="queue")
    assert plain.tick(100 * 24) == 24
    runs = plain.runs(schedule)
    assert runs[-1].due == START + 100 * 24 * HOUR
    assert [later.due - run.due for run, later in itertools.pairwise(runs)] == [60.0] * 23
    assert runs[0].missed >= 900, "the others are counted, up to a thousand"


OVERLAPS = [
    ("skip", ["queued"], ["queued", "skipped"]),
    ("queue", ["queued", "queued"], ["queued", "queued"]),
    ("replace", ["cancelled", "queued"], ["cancelled", "queued"]),
]


@pytest.mark.parametrize(("overlap", "states", "told"), OVERLAPS)
def test_a_former_run_that_has_not_ended(
    world: ScheduleWorld, overlap: str, states: list[str], told: list[str]
) -> None:
    schedule = world.make(overlap=overlap)
    world.tick(1.0)
    world.tick(1.0)
    assert [job.state for job in world.jobs()] == states
    assert [run.state for run in world.runs(schedule)] == told
    if overlap == "skip":
        first, second = world.runs(schedule)
        assert first.id in second.reason


def test_a_former_run_that_nobody_has_begun_yet_is_replaced(plain: ScheduleWorld) -> None:
    """Somebody is at it just now: the job that comes of it is cancelled."""
    schedule = plain.make(overlap="replace")
    slow = plain.scheduler()
    plain.now += HOUR
    slow._decide(plain.now)
    claimed = slow._claim(plain.now)
    assert claimed is not None
    plain.tick(1.0)
    assert slow._begin(*claimed) is False
    assert [run.state for run in plain.runs(schedule)] == ["skipped", "queued"]
    assert sorted(job.state for job in plain.jobs()) == ["cancelled", "queued"]


def test_many_schedulers_begin_each_run_once(world: ScheduleWorld) -> None:
    made = [world.make() for _ in range(6)]
    world.now += HOUR
    begun: list[int] = []
    together = threading.Barrier(4)

    def tick() -> None:
        scheduler = world.scheduler()
        together.wait()
        begun.append(scheduler.tick())

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.tick() == 0
    assert sum(begun) == len(world.jobs()) == 6
    assert all(len(world.rows(schedule)) == 1 for schedule in made)
    assert {run.job for s in made for run in world.runs(s)} == {job.id for job in world.jobs()}


@pytest.mark.parametrize("accepted", [False, True])
def test_a_server_that_dies_while_it_begins_a_run(world: ScheduleWorld, accepted: bool) -> None:
    """Before or after the job was accepted: the next one begins it, and it is one job."""
    schedule = world.make()
    dying = world.scheduler()
    world.now += HOUR
    dying._decide(world.now)
    claimed = dying._claim(world.now)
    assert claimed is not None
    run, row = claimed
    if accepted:
        request = {**row.request, "name": row.name}
        accept_job(world.service, world.caller, row.kind, request, run.id)
    assert world.tick(0.01) == 0, "it may still be at it"
    assert world.tick(0.5) == 1
    (job,) = world.jobs()
    assert [(told.state, told.job) for told in world.runs(schedule)] == [("queued", job.id)]


def test_a_job_that_ends_at_once_is_known_to_its_run(plain: ScheduleWorld) -> None:
    schedule = plain.make()
    scheduler = plain.scheduler()
    plain.now += HOUR
    scheduler._decide(plain.now)
    claimed = scheduler._claim(plain.now)
    assert claimed is not None
    run, row = claimed
    accept_job(plain.service, plain.caller, row.kind, {**row.request, "name": ""}, run.id)
    plain.do(latency_ratio=0.5)
    assert scheduler._begin(run, row) is True
    assert [told.state for told in plain.runs(schedule)] == ["finished"]


def test_a_job_that_is_not_accepted_any_more(plain: ScheduleWorld) -> None:
    schedule = plain.make()
    with plain.queue.database.writing() as session:
        session.get_one(JobRow, plain.source).state = "queued"
    assert plain.tick(1.0) == 0
    (run,) = plain.runs(schedule)
    assert run.state == "refused"
    assert run.problem is not None
    assert "delivered no bundle" in run.problem.detail
    assert len(plain.jobs()) == 0
    assert list((plain.queue.files.root / "jobs").iterdir()) == []


def test_a_revoked_key_begins_nothing(plain: ScheduleWorld) -> None:
    schedule = plain.make()
    revoke_key(plain.queue.database, plain.queue.owner)
    assert plain.tick(1.0) == 0
    assert [run.state for run in plain.runs(schedule)] == ["refused"]


def test_history_outlives_its_jobs_and_tells_what_changed(world: ScheduleWorld) -> None:
    schedule = world.make()
    found = [
        {"latency_seconds": 0.010, "latency_ratio": 0.50, "drop": 0.01, "environment": "a"},
        {"verdict": "not-found-within-limits", "latency_seconds": 0.015, "latency_ratio": 0.75,
         "drop": 0.01, "environment": "b", "break_even": {"2:4:int8": "never"}},
    ]  # fmt: skip
    for outcome in found:
        world.tick(1.0)
        job = world.do(**outcome)
        jobs.delete_job(world.service, world.caller, job)
    first, second = world.runs(schedule)
    assert first.difference is None
    assert (first.state, second.state) == ("finished", "finished")
    change = second.difference
    assert change is not None
    assert change.before == first.id
    assert change.latency == pytest.approx(0.5)
    assert change.latency_ratio == pytest.approx(0.25)
    assert (change.drop, change.recipe_changed) == (0.0, False)
    assert (change.verdict_changed, change.environment_changed) == (True, True)
    assert change.break_even == {"2:4:int8": ("-", "never")}


def test_what_a_schedule_needs_stays(plain: ScheduleWorld) -> None:
    schedule = plain.make()
    with pytest.raises(ConflictError, match=schedule):
        jobs.delete_job(plain.service, plain.caller, plain.source)
    schedules.delete_schedule(plain.service, plain.caller, schedule)
    jobs.delete_job(plain.service, plain.caller, plain.source)


def test_a_run_that_waits_needs_its_bundle(plain: ScheduleWorld) -> None:
    schedule = plain.make()
    plain.tick(1.0)
    schedules.delete_schedule(plain.service, plain.caller, schedule)
    with pytest.raises(ConflictError, match=plain.jobs()[0].id):
        jobs.delete_job(plain.service, plain.caller, plain.source)


def test_paused_means_nothing_was_missed(plain: ScheduleWorld) -> None:
    schedule = plain.make(missed="once")
    schedules.pause_schedule(plain.service, plain.caller, schedule, paused=True)
    assert plain.tick(48.0) == 0
    told = schedules.pause_schedule(plain.service, plain.caller, schedule, paused=False)
    assert told.next_due is not None
    assert told.next_due > time.time()
    assert plain.rows(schedule) == []


def test_run_now_also_while_it_is_paused(plain: ScheduleWorld) -> None:
    schedule = plain.make(paused=True)
    begun = schedules.run_now(plain.service, plain.caller, schedule)
    assert (begun.state, begun.cause) == ("starting", "hand")
    with pytest.raises(ConflictError, match=begun.id):
        schedules.run_now(plain.service, plain.caller, schedule)
    assert plain.tick() == 1
    assert [run.state for run in plain.runs(schedule)] == ["queued"]


def test_a_changed_time_counts_from_now(plain: ScheduleWorld) -> None:
    schedule = plain.make()
    change = schedules.ScheduleChanges(cron="30  4 * * *", time_zone="Asia/Tokyo")
    told = schedules.change_schedule(plain.service, plain.caller, schedule, change)
    assert told.cron == "30 4 * * *"
    assert told.next_due is not None
    assert told.next_due > time.time()
    with pytest.raises(ConfigError, match="overlap"):
        schedules.change_schedule(
            plain.service, plain.caller, schedule, schedules.ScheduleChanges(missed="all")
        )
    with plain.queue.database.reading() as session:
        assert session.get_one(ScheduleRow, schedule).missed == "once"


ATLAS = {"kind": "refresh_atlas"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"cron": "0 3 * *"}, "cron"),
    ({"cron": "0 25 * * *"}, "hour"),
    ({"cron": "0 0 30 2 *"}, "day-of-month"),
    ({"cron": "* * */20 * 1L"}, "never"),
    ({"cron": "* * * * * *"}, "five"),
    ({"time_zone": "../../etc/passwd"}, "time zone"),
    ({"time_zone": "Mars/Olympus"}, "time zone"),
    ({"missed": "all"}, "overlap"),
    ({"missed": "sometimes"}, "missed"),
    ({"kind": "resolve"}, "kind"),
    ({"name": "\x00"}, "name"),
    ({"request": {}}, "job"),
    ({"request": {"job": "job_source", "bundle": "/etc"}}, "bundle"),
    ({"request": {"job": "job_source", "tolerance": -1}}, "tolerance"),
    ({"request": {"job": "../secret"}}, "job"),
    ({"kind": "search", "request": {"output_dir": "x"}}, "output_dir"),
    ({**ATLAS, "request": {"model": "mdl_source", "output_dir": "x"}}, "output_dir"),
    ({**ATLAS, "request": {"model": "mdl_source", "levels": ["dense"]}}, "dense"),
    ({**ATLAS, "request": {"model": "mdl_source", "backend": "os:x"}}, "backend"),
    ({**ATLAS, "request": {}}, "model"),
    ({"surprise": 1}, "surprise"),
]  # fmt: skip


def test_what_is_wrong_is_named(live: LiveService) -> None:
    me = live.http.get("/v1/keys").json()["items"][0]["id"]
    request = {"kind": "reverify", "cron": "0 3 * * *", "request": {"job": "job_source"}}
    delivered_job(live.service, me)
    for change, named in WRONG:
        answer = live.http.post("/v1/schedules", json={**request, **change})
        assert answer.status_code == 422, (change, answer.text)
        assert named in answer.json()["detail"] + answer.json()["hint"], (change, answer.text)
    assert live.http.get("/v1/schedules").json()["items"] == []
    other = live.http.post("/v1/schedules", json=request, headers=live.new_key())
    assert other.status_code == 404


def test_over_http(live: LiveService) -> None:
    me = live.http.get("/v1/keys").json()["items"][0]["id"]
    job = delivered_job(live.service, me)
    request = {"kind": "reverify", "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "name": "n",
               "request": {"job": job}}  # fmt: skip
    made = live.http.post("/v1/schedules", json=request)
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    assert live.http.get(path).json() == made.json()
    assert made.json()["told"] == "At 03:00 every day"
    atlas = {"kind": "refresh_atlas", "cron": "@daily", "request": {"model": "mdl_source"}}
    assert live.http.post("/v1/schedules", json=atlas).status_code == 422
    second = live.http.post("/v1/schedules", json={**request, "cron": "0 0 * * *"})
    assert second.status_code == 201, second.text
    listed = live.http.get("/v1/schedules?limit=1").json()
    assert [item["id"] for item in listed["items"]] == [second.json()["id"]]
    assert listed["next"] == second.json()["id"]
    assert live.http.post(f"{path}:pause").json()["next_due"] is None
    assert live.http.post(f"{path}:resume").json()["paused"] is False
    assert live.http.patch(path, json={"name": "other"}).json()["name"] == "other"
    assert live.http.patch(path, json={"request": {}}).status_code == 422
    begun = live.http.post(f"{path}:run")
    assert begun.status_code == 202
    (run,) = live.http.get(f"{path}/runs").json()["items"]
    assert (run["id"], run["state"]) == (begun.json()["id"], "starting")
    assert live.http.delete(path).status_code == 204
    assert live.http.get(path).status_code == 404
    with live.service.database.reading() as session:
        assert session.scalar(select(RunRow.id)) is None
