"""`autosparse schedule` against a listening service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.inspection import Inspector
from api.scheduler import Scheduler
from autosparse.cli.main import run
from tests.api.live_service import LiveService
from tests.api.schedule_world import delivered_job

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def live(live: LiveService) -> LiveService:
    """A service with a delivered job."""
    delivered_job(live.service, live.http.get("/v1/keys").json()["items"][0]["id"])
    return live


def told(capsys: Capture, *argv: str) -> Any:
    capsys.readouterr()
    assert run(["schedule", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_making_to_deleting(live: LiveService, capsys: Capture) -> None:
    argv = ("reverify", "job_source", "--cron", "0 3 * * MON", "--time-zone", "Asia/Tokyo",
            "--name", "weekly", "--missed", "skip", "--tolerance", "0.2")  # fmt: skip
    made = told(capsys, *argv)
    assert made["request"] == {"job": "job_source", "tolerance": 0.2}
    assert (made["missed"], made["overlap"], made["time_zone"]) == ("skip", "skip", "Asia/Tokyo")
    assert told(capsys, "pause", made["id"])["paused"] is True
    begun = told(capsys, "run", made["id"])
    Scheduler(live.service).tick()
    (run_,) = told(capsys, "runs", made["id"])
    assert (run_["id"], run_["state"]) == (begun["id"], "queued")
    assert told(capsys, "resume", made["id"])["next_due"] is not None
    assert [item["id"] for item in told(capsys, "list")] == [made["id"]]
    assert run(["schedule", "list"]) == 0
    assert run(["schedule", "runs", made["id"]]) == 0
    shown = capsys.readouterr().out
    assert made["id"] in shown
    assert run_["id"] in shown
    assert told(capsys, "delete", made["id"]) is None
    assert told(capsys, "list") == []


def test_an_atlas_is_asked_for_with_the_flags_of_profile(
    live: LiveService, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is uploaded to the others' service is looked into there
    monkeypatch.setattr(Inspector, "inspect", lambda self, kind, **request: {})
    made = told(capsys, "refresh-atlas", "mdl_source", "--levels", "2:4:int8", "--threads", "2",
                "--cron", "0 0 1 * *")  # fmt: skip
    assert made["kind"] == "refresh_atlas"
    assert made["request"] == {"model": "mdl_source", "levels": ["2:4:int8"], "threads": 2}


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("reverify", "job_source", "--cron", "at night"), "cron"),
        (("reverify", "job_lost", "--cron", "0 3 * * *"), "job_lost"),
        (("reverify", "job_source", "--cron", "0 3 * * *", "--time-zone", "Moon"), "Moon"),
        (("pause", "../keys"), "schedule list"),
        (("search", "mdl_source", "--cron", "0 3 * * *"), "calibration"),
    ],
)
def test_what_is_wrong_is_told(
    live: LiveService, capsys: Capture, argv: tuple[str, ...], named: str
) -> None:
    assert run(["schedule", *argv]) == 2
    assert named in capsys.readouterr().err
