"""What a job says and delivers: events with replay, logs, artifacts with ranges and checksums."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from api.artifacts import artifacts_of
from api.job_ledger import add_event, make_lane, take_job
from api.tables import DeliveryRow, EventRow, JobRow
from tests.api.live_service import LiveService
from tests.api.queue_world import record

MANIFEST = Path(__file__).parents[1] / "compat" / "samples" / "Manifest.v1.json"
REPORT = b"<html><script>alert(1)</script></html>" * 100


@pytest.fixture
def job(live: LiveService, fields: dict[str, Any]) -> str:
    """A job that was accepted."""
    id_: str = live.http.post("/v1/jobs", json=fields).json()["id"]
    return id_


def deliver(live: LiveService, job: str, **more: str) -> Path:
    """Put a small bundle where the job's would be; its directory."""
    bundle = live.service.files.job(job) / "out" / "bundle"
    (bundle / "kernels").mkdir(parents=True)
    (bundle / "report.html").write_bytes(REPORT)
    (bundle / "kernels" / "lib.so").write_bytes(b"\x7fELF")
    files = {
        name: hashlib.sha256((bundle / name).read_bytes()).hexdigest()
        for name in ("report.html", "kernels/lib.so")
    }
    manifest = json.loads(MANIFEST.read_text())
    manifest["files"] = {**files, **more}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def end(live: LiveService, job: str, notes: int = 0) -> None:
    """Let the job run and end, with some notes on the way."""
    database = live.service.database
    make_lane(database, "test")
    lease = take_job(database, "runner", "test", 60.0, 5)
    assert lease is not None
    assert lease.job_id == job
    for number in range(notes):
        lease.event("note", {"text": str(number)})
    lease.trial(record(1), "recipe1")
    lease.end("finished", verdict="met", manifest={"product": "x"})


def blocks(text: str) -> list[dict[str, str]]:
    """The fields of each event of a stream."""
    return [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.split("\n\n")
        if block and not block.startswith(":")
    ]


def test_events_are_replayed_behind_the_last_one_seen(live: LiveService, job: str) -> None:
    end(live, job, notes=1200)
    path = f"/v1/jobs/{job}/events"
    whole = live.http.get(path)
    assert whole.headers["content-type"].startswith("text/event-stream")
    events = blocks(whole.text)
    assert [int(event["id"]) for event in events] == list(range(1, 1205))
    assert events[0]["event"] == "state"
    assert json.loads(events[2]["data"])["data"] == {"text": "0"}
    for headers, query in (({"Last-Event-ID": "1200"}, ""), ({}, "?after=1200")):
        rest = blocks(live.http.get(path + query, headers=headers).text)
        assert rest == events[1200:]
    assert live.http.get(f"{path}?after=99999").text == ""


def test_trials_and_their_front(live: LiveService, job: str) -> None:
    database = live.service.database
    make_lane(database, "test")
    lease = take_job(database, "runner", "test", 60.0, 5)
    assert lease is not None
    points = [(0.9, 0.0), (0.5, 0.02), (0.6, 0.01), (0.7, 0.015), (0.5, 0.03)]
    for number, (ratio, drop) in enumerate(points):
        one = record(number)
        one["evidence"].update(latency_ratio=ratio, drop=drop)
        lease.trial(one, "recipe2")
    trials = live.http.get(f"/v1/jobs/{job}/trials").json()["items"]
    assert [t["number"] for t in trials] == [1, 2, 3, 4, 5]
    first = live.http.get(f"/v1/jobs/{job}/trials?limit=3").json()
    assert [t["number"] for t in first["items"]] == [1, 2, 3]
    behind = live.http.get(f"/v1/jobs/{job}/trials?limit=3&after={first['next']}").json()
    assert ([t["number"] for t in behind["items"]], behind["next"]) == ([4, 5], None)
    for wrong in ("after=-1", "after=x", f"after={2**31}", "limit=0", "limit=201"):
        assert live.http.get(f"/v1/jobs/{job}/trials?{wrong}").status_code == 422, wrong
    front = live.http.get(f"/v1/jobs/{job}/pareto").json()["items"]
    assert [(t["latency_ratio"], t["drop"]) for t in front] == [(0.5, 0.02), (0.6, 0.01), (0.9, 0)]
    assert live.http.get(f"/v1/jobs/{job}").json()["best"]["recipe_id"] == "recipe2"


def test_the_front_counts_size_and_memory_where_every_trial_tells_them(
    live: LiveService, job: str
) -> None:
    make_lane(live.service.database, "test")
    lease = take_job(live.service.database, "runner", "test", 60.0, 5)
    assert lease is not None
    for number, (ratio, size, peak) in enumerate([(0.5, 9, 9), (0.6, 7, 9), (0.7, 9, 9)]):
        one = record(number)
        one["evidence"].update(
            latency_ratio=ratio, drop=0.0, size_bytes=size, peak_memory_bytes=peak
        )
        lease.trial(one, "recipe0")
    front = live.http.get(f"/v1/jobs/{job}/pareto").json()["items"]
    assert [(t["latency_ratio"], t["size_bytes"]) for t in front] == [(0.5, 9), (0.6, 7)]


def test_a_front_that_is_known_takes_in_later_trials(live: LiveService, job: str) -> None:
    """Of those that are known, nothing is read again; a figure may stop counting for all."""
    make_lane(live.service.database, "test")
    lease = take_job(live.service.database, "runner", "test", 60.0, 5)
    assert lease is not None
    later = [
        ((0.5, 9), [0.5]),
        ((0.6, 7), [0.5, 0.6]),
        ((0.4, 8), [0.4, 0.6]),
        ((0.7, None), [0.4]),
    ]
    for number, ((ratio, size), front) in enumerate(later):
        one = record(number)
        one["evidence"].update(latency_ratio=ratio, drop=0.0, size_bytes=size)
        lease.trial(one, "recipe0")
        told = live.http.get(f"/v1/jobs/{job}/pareto").json()["items"]
        assert [t["latency_ratio"] for t in told] == front
    assert live.http.delete(f"/v1/jobs/{job}").status_code == 409


def test_an_earlier_snapshot_sees_the_front_of_its_time(live: LiveService, job: str) -> None:
    """Else what it does not see would beat what it does, and neither would be told."""
    make_lane(live.service.database, "test")
    lease = take_job(live.service.database, "runner", "test", 60.0, 5)
    assert lease is not None
    lease.trial(record(0), "recipe0")
    database, fronts = live.service.database, live.service.fronts
    with database.reading() as session:
        row = session.get(JobRow, job)
        assert row is not None
        better = record(1)
        better["evidence"].update(latency_ratio=0.01, drop=-1.0)
        lease.trial(better, "recipe1")
        with database.reading() as later:
            assert [t.number for t in fronts.front(later, row)] == [2]
        assert [t.number for t in fronts.front(session, row)] == [1]


def test_fronts_of_many_jobs_are_forgotten_and_read_again(
    live: LiveService, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.fronts._MOST_JOBS", 1)
    make_lane(live.service.database, "test")
    lease = take_job(live.service.database, "runner", "test", 60.0, 5)
    assert lease is not None
    lease.trial(record(0), "recipe0")
    before = live.http.get(f"/v1/jobs/{job}/pareto").json()
    with live.service.database.reading() as session:
        assert live.service.fronts.front(session, JobRow(id="job_other")) == []
    assert len(before["items"]) == 1
    assert live.http.get(f"/v1/jobs/{job}/pareto").json() == before


def test_artifacts_are_listed_and_sent_with_their_digests(live: LiveService, job: str) -> None:
    path = f"/v1/jobs/{job}/artifacts"
    assert live.http.get(path).json()["items"] == []
    bundle = deliver(live, job)
    listed = {item["name"]: item for item in live.http.get(path).json()["items"]}
    assert set(listed) == {"manifest.json", "report.html", "kernels/lib.so"}
    for name, item in listed.items():
        answer = live.http.get(f"{path}/{name}")
        assert answer.content == (bundle / name).read_bytes()
        digest = hashlib.sha256(answer.content)
        assert item["sha256"] == digest.hexdigest()
        assert item["size_bytes"] == len(answer.content)
        expected = base64.b64encode(digest.digest()).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{expected}:"


def test_a_part_of_an_artifact(live: LiveService, job: str) -> None:
    deliver(live, job)
    path = f"/v1/jobs/{job}/artifacts/report.html"
    part = live.http.get(path, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == REPORT[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(REPORT)}"
    beyond = live.http.get(path, headers={"Range": f"bytes={len(REPORT)}-"})
    assert beyond.status_code == 416


def test_a_page_that_was_delivered_cannot_act_here(live: LiveService, job: str) -> None:
    deliver(live, job)
    headers = live.http.get(f"/v1/jobs/{job}/artifacts/report.html").headers
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-type"] == "application/octet-stream"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    ["../../job.json", "..%2f..%2fgiven/model.onnx", "/etc/passwd", "%2fetc%2fpasswd",
     "kernels/../../log.txt", "kernels", "", "report.html/", "report.html%00", "out/bundle"],
)  # fmt: skip
def test_no_name_leads_to_another_file(live: LiveService, job: str, name: str) -> None:
    deliver(live, job)
    answer = live.http.get(f"/v1/jobs/{job}/artifacts/{name}")
    # an empty name is the list, by the client's own tidying
    assert answer.status_code in (404, 307) or answer.json().keys() == {"items", "next"}


def test_a_manifest_cannot_name_a_file_outside(live: LiveService, job: str) -> None:
    secret = live.service.files.root / "secret.txt"
    secret.write_text("secret")
    bundle = deliver(live, job, **{"../../../../secret.txt": "0" * 64, str(secret): "0" * 64})
    assert (bundle / "../../../../secret.txt").exists()
    assert set(artifacts_of(live.service.files.job(job))) == {
        "manifest.json", "report.html", "kernels/lib.so",
    }  # fmt: skip


def test_logs_are_sent_so_far(live: LiveService, job: str) -> None:
    path = f"/v1/jobs/{job}/logs"
    assert live.http.get(path).status_code == 404
    (live.service.files.job(job) / "log.txt").write_text("one\ntwo\n")
    assert live.http.get(path).text == "one\ntwo\n"
    assert live.http.get(path, headers={"Range": "bytes=4-"}).text == "two\n"


def test_metrics_count_jobs_and_requests(live: LiveService, job: str) -> None:
    text = live.http.get("/metrics").text
    assert 'autosparse_jobs{state="queued"} 1.0' in text
    assert 'route="/v1/jobs"' in text
    assert job not in text


def figure(live: LiveService, name: str) -> float:
    """What /metrics tells under a name."""
    (line,) = (
        one for one in live.http.get("/metrics").text.splitlines() if one.startswith(f"{name} ")
    )
    return float(line.rpartition(" ")[2])


def test_metrics_tell_what_is_stuck(live: LiveService, job: str) -> None:
    """A job that nobody takes, a runner that is silent, and a webhook that nobody answers."""
    with live.service.database.writing() as session:
        for event in session.query(EventRow).filter(EventRow.job == job):
            event.at -= 3600.0
    assert 3600.0 <= figure(live, "autosparse_queue_oldest_seconds") < 7200.0
    make_lane(live.service.database, "test")
    assert take_job(live.service.database, "silent", "test", -60.0, 5) is not None
    assert figure(live, "autosparse_queue_oldest_seconds") == 0.0
    assert figure(live, 'autosparse_lease_left_seconds{device="test"}') <= -60.0
    hook = live.http.post("/v1/webhooks", json={"url": "https://example.com/"}).json()["id"]
    for _ in range(3):
        assert live.http.post(f"/v1/webhooks/{hook}:test").status_code == 202
    with live.service.database.writing() as session:
        failed, failing, _ = session.query(DeliveryRow)
        failed.state, failing.attempts = "failed", 2
    told = {
        state: figure(live, f'autosparse_webhook_deliveries{{state="{state}"}}')
        for state in ("waiting", "delivered", "failed")
    }
    assert told == {"waiting": 2.0, "delivered": 0.0, "failed": 1.0}
    assert figure(live, "autosparse_webhook_failing") == 1.0


def test_a_deleted_job_ends_its_stream(live: LiveService, job: str) -> None:
    with live.service.database.writing() as session:
        row = session.get(JobRow, job)
        assert row is not None
        row.state = "failed"
        add_event(session, row, "state", {"state": "failed"})
    assert len(blocks(live.http.get(f"/v1/jobs/{job}/events").text)) == 2


def test_a_trial_has_its_seconds_where_its_evidence_has_none(live: LiveService, job: str) -> None:
    """Only a budget in milliseconds is held against seconds; those of the trial are its own."""
    make_lane(live.service.database, "test")
    lease = take_job(live.service.database, "runner", "test", 60.0, 5)
    assert lease is not None
    told = record(1)
    told["evidence"] |= {"latency_seconds": None, "latency_seconds_high": None}
    lease.trial(told, "recipe1")
    (trial,) = live.http.get(f"/v1/jobs/{job}/trials").json()["items"]
    best = live.http.get(f"/v1/jobs/{job}").json()["best"]
    assert trial["latency_seconds"] == best["latency_seconds"] == told["latency_seconds"]
