"""Several devices: a job says where it is to run, and what is about a job stays where that ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api.job_ledger import JobLease, make_lane, take_job
from api.tables import JobRow
from autosparse import Client
from tests.api.live_service import LiveService, listening
from tests.api.queue_world import RESULT, QueueWorld
from tests.api.schedule_world import ScheduleWorld, answerable_job


def take(world: QueueWorld, device: str) -> JobLease | None:
    make_lane(world.database, device)
    return take_job(world.database, f"runner of {device}", device, 60.0, 5)


def test_a_job_for_a_device_waits_for_it(tmp_path: Path) -> None:
    world = QueueWorld(tmp_path / "home")
    first, second = world.job([RESULT]), world.job([RESULT])
    world.change(first, device="slow")
    taken = take(world, "quick")
    assert taken is not None
    assert taken.job_id == second, "the first is for another device"
    assert take(world, "third") is None
    taken = take(world, "slow")
    assert taken is not None
    assert (taken.job_id, world.row(first).ran_on) == (first, "slow")
    world.database.close()


def test_a_runner_that_fell_silent_is_followed_on_its_device_only(tmp_path: Path) -> None:
    world = QueueWorld(tmp_path / "home")
    job = world.job([RESULT])
    world.change(job, device="slow")
    make_lane(world.database, "slow")
    assert take_job(world.database, "silent", "slow", -1.0, 5) is not None
    assert take(world, "quick") is None
    assert take(world, "slow") is not None
    world.database.close()


def test_what_is_about_a_job_stays_where_it_ran(tmp_path: Path) -> None:
    """Measured again elsewhere, a bundle would be slower or quicker for no reason of its own."""
    world = ScheduleWorld(tmp_path / "home")
    world.queue.change(world.source, ran_on="slow")
    world.make()
    assert world.tick(1.0) == 1
    (again,) = world.jobs()
    assert again.device == "slow"
    assert take(world.queue, "quick") is None
    assert take(world.queue, "slow") is not None
    world.queue.database.close()


def test_over_http(live: LiveService, fields: dict[str, Any]) -> None:
    assert live.http.get("/v1/devices").json()["items"] == []
    refused = live.http.post("/v1/jobs", json={**fields, "device": "edge"})
    assert refused.status_code == 422
    assert "'edge'" in refused.json()["detail"]
    for name in ("edge", "tower"):
        make_lane(live.service.database, name)
    made = live.http.post("/v1/jobs", json={**fields, "device": "edge"})
    assert made.status_code == 202, made.text
    assert (made.json()["device"], made.json()["ran_on"]) == ("edge", None)
    source = answerable_job(live.service, live.key.partition(".")[0], fields)
    with live.service.database.writing() as session:
        session.get_one(JobRow, source).ran_on = "tower"
    wishes: list[tuple[dict[str, str], str]] = [({}, "tower"), ({"device": "edge"}, "edge")]
    for asked, device in wishes:
        for verb in ("resolve", "reverify"):
            other = {"latency_budget": "6ms"} if verb == "resolve" else {}
            answer = live.http.post(f"/v1/jobs/{source}:{verb}", json={**asked, **other})
            assert (answer.status_code, answer.json()["device"]) == (202, device), answer.text
    assert take_job(live.service.database, "me", "edge", 60.0, 5) is not None
    with listening(live.service) as url, Client(url, live.key) as client:
        assert [(one.name, one.busy) for one in client.devices()] == [
            ("edge", True), ("tower", False),
        ]  # fmt: skip


def test_what_is_no_device(shared_live: LiveService) -> None:
    for device in ("", 7, "a\nb", "x" * 300, ["edge"]):
        for path in ("jobs", "atlases"):
            answer = shared_live.http.post(f"/v1/{path}", json={"device": device})
            assert answer.status_code == 422, (path, device)
            assert "device" in answer.json()["detail"]
