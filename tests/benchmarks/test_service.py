"""Load on a service: what is lost, late, refused or grown is seen, and not what is not."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from api.job_ledger import add_event, move
from api.tables import JobRow
from benchmarks.rows import Row
from benchmarks.service import rows_of
from benchmarks.service_load import Follower, Load, LoadedServer, LoadPlan, put_under_load
from tests.api.live_service import listening, live_service
from tests.api.queue_world import QueueWorld

PLAN = LoadPlan(followers=2, reads_per_second=10.0, seconds=10.0)


@pytest.mark.parametrize(
    ("sequences", "faults"),
    [([1, 2, 3], 0), ([], 0), ([2, 3], 1), ([1, 3], 1), ([1, 1, 2], 1), ([1, 3, 2], 2)],
)
def test_an_event_that_is_missing_or_comes_twice_is_a_fault(
    sequences: list[int], faults: int
) -> None:
    assert Follower(sequences).faults == faults


def a_load(**changed: object) -> Load:
    """One that meets every bar, but for what is changed."""
    followers = [Follower([1, 2], [0.1], "200"), Follower([1, 2], [0.2], "200")]
    good = {
        "followers": followers, "latencies": [0.01] * 100, "statuses": Counter({"200": 100}),
        "memory": {"server": [100 << 20] * 10}, "anonymous": {"server": [60 << 20] * 10},
    }  # fmt: skip
    return Load(**{**good, **changed})  # type: ignore[arg-type]


def judged(load: Load, state: str = "running") -> dict[str, Row]:
    return {row.what.partition(",")[0]: row for row in rows_of(load, PLAN, state, "here")}


def missed(load: Load, state: str = "running") -> set[str]:
    return {what for what, row in judged(load, state).items() if row.holds is False}


def test_a_good_load_meets_every_bar() -> None:
    rows = judged(a_load())
    assert [row.holds for row in rows.values()].count(True) == 4
    assert missed(a_load()) == set()


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"latencies": [0.01] * 95 + [0.3] * 5}, "p99 of reads"),
        ({"statuses": Counter({"200": 99, "503": 1})}, "reads answered with 5xx"),
        ({"statuses": Counter({"200": 99, "ReadTimeout": 1})}, "reads answered with 5xx"),
        ({"followers": [Follower([1, 3], [], "200")]}, "events lost or doubled"),
        ({"followers": [Follower([1], [], "the stream ended")]}, "events lost or doubled"),
        ({"followers": [Follower([], [], "503")]}, "events lost or doubled"),
        (
            {"followers": [Follower([1, 2, 3], [], "200"), Follower([1], [], "200")]},
            "events lost or doubled",
        ),
        ({"memory": {"server": [*[100 << 20] * 8, *[110 << 20] * 2]}}, "memory of the server"),
    ],
)
def test_what_went_wrong_is_seen(changed: dict[str, object], what: str) -> None:
    assert missed(a_load(**changed)) == {what}


def test_what_a_start_takes_is_no_growth() -> None:
    load = a_load(memory={"server": [*[50 << 20] * 2, *[100 << 20] * 8]})
    assert missed(load) == set()


def test_a_load_beside_no_search_proves_nothing() -> None:
    assert missed(a_load(), state="finished") == {"p99 of reads"}


def test_a_real_server_under_a_small_load(tmp_path: Path) -> None:
    """Followers of one job are all told what happened before and meanwhile, once."""
    world = QueueWorld(tmp_path / "home")
    job = world.job([])
    with live_service(tmp_path / "home") as live, listening(live.service) as url:
        with live.service.database.writing() as session:
            session.get_one(JobRow, job).owner = live.key.partition(".")[0]
            move(session, session.get_one(JobRow, job), "running")
            add_event(session, session.get_one(JobRow, job), "note", {"text": "meanwhile"})
        server = LoadedServer(url, live.key, os.getpid())
        load = put_under_load(server, job, LoadPlan(5, 20.0, 0.5))
    assert [follower.sequences for follower in load.followers] == [[1, 2, 3]] * 5
    assert {follower.ended for follower in load.followers} == {"200"}
    assert sum(load.statuses.values()) == len(load.latencies) == 10
    assert load.failed == 0
    world.database.close()
