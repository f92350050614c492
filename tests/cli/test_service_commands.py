"""`autosparse jobs`, `change`, `resume`, `delete` and `uploads` against a listening service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autosparse.cli.main import run
from tests.api.live_service import LiveService
from tests.api.seeded import add_job, add_upload

Capture = pytest.CaptureFixture[str]


def told(capsys: Capture, *argv: str) -> Any:
    capsys.readouterr()
    assert run([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_job_is_changed_resumed_and_deleted(live: LiveService, capsys: Capture) -> None:
    job = add_job(live, "nightly", state="cancelled")
    changed = told(capsys, "change", job, "--name", "weekly", "--priority", "7", "--kept")
    assert (changed["name"], changed["priority"], changed["kept"]) == ("weekly", 7, True)
    changed = told(capsys, "change", job, "--no-kept")
    assert (changed["name"], changed["kept"]) == ("weekly", False)
    wishes = ("--latency-budget", "40%", "--trials", "5", "--no-strict", "--time-limit", "10m")
    resumed = told(capsys, "resume", job, *wishes)
    assert resumed["state"] == "queued"
    asked = {"latency_budget": "40%", "trials": 5, "strict": False, "time_limit": "10m"}
    assert resumed["request"] == asked
    assert run(["delete", job]) == 2
    assert "cancel it first" in capsys.readouterr().err
    assert told(capsys, "cancel", job)["state"] == "cancelled"
    assert told(capsys, "delete", job) == [job]
    assert told(capsys, "jobs") == []


def test_what_was_deleted_is_told_where_another_could_not_be(
    live: LiveService, capsys: Capture
) -> None:
    ended, waiting = add_job(live, "over", state="failed"), add_job(live, "waits")
    assert run(["delete", ended, waiting, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == [ended]
    assert waiting in err
    assert [job["id"] for job in told(capsys, "jobs")] == [waiting]


def test_jobs_are_chosen_by_name(live: LiveService, capsys: Capture) -> None:
    for name in ("nightly small", "weekly", "nightly large"):
        add_job(live, name)
    found = told(capsys, "jobs", "--name", "nightly", "--kind", "search")
    assert {job["name"] for job in found} == {"nightly small", "nightly large"}


def test_uploads_are_listed_and_deleted(
    live: LiveService, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    job = add_job(live, "needs it")
    add_upload(live, "mdl_used", "resnet20.onnx", job)
    add_upload(live, "dat_free", "rows.npz", size_bytes=3 << 20)
    announced = {"kind": "dataset", "name": "train.npz", "size_bytes": 5 << 20}
    arriving = live.http.post("/v1/uploads", json=announced).json()["id"]
    target = live.http.post("/v1/targets", json={"name": "box"}).json()["id"]
    listed = told(capsys, "uploads", "list")
    assert [(one["id"], one.get("needed_by")) for one in listed] == [
        (target, []), (arriving, None), ("dat_free", []), ("mdl_used", [job]),
    ]  # fmt: skip
    assert [one["id"] for one in told(capsys, "uploads", "list", "--kind", "dataset")] == [
        "dat_free"
    ]
    assert run(["uploads", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for id_, words in (("dat_free", "3.0 MiB"), (arriving, "0 B have arrived")):
        assert [words in line for line in lines if id_ in line] == [True]
    assert run(["uploads", "delete", "mdl_used"]) == 2
    assert f"needed by the job {job}" in capsys.readouterr().err
    gone = ("dat_free", target, arriving)
    assert told(capsys, "uploads", "delete", *gone) == [*gone]
    assert [one["id"] for one in told(capsys, "uploads", "list")] == ["mdl_used"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("change", "job_none"), "--priority"),
        (("change", "job_none", "--priority", "1"), "job_none"),
        (("resume", "../keys"), "is no id"),
        (("uploads", "delete", "job_none"), "uploads list"),
        (("uploads", "delete", "dat_none"), "dat_none"),
    ],
)
def test_what_is_wrong_is_told(
    live: LiveService, capsys: Capture, argv: tuple[str, ...], named: str
) -> None:
    assert run(list(argv)) == 2
    assert named in capsys.readouterr().err
