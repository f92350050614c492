"""What the API's document promises, held against what the server does, by schemathesis."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from api.app import create_app
from api.inspection import Inspector
from api.job_ledger import make_lane, take_job
from tests.api.live_service import LiveService, job_fields, listening, live_service
from tests.api.queue_world import record
from tests.api.seeded import add_cells
from tests.api.test_deliveries import MANIFEST, deliver

schemathesis = pytest.importorskip("schemathesis", reason="it is in the extra `dev`")
# What a budget, an id, a regular expression or a file must be, a schema cannot say: that is
# refused with 422, and its own tests ask for it.
EXCLUDED = "positive_data_acceptance"
UPLOADS = ("models", "datasets")
QUICK = settings(
    max_examples=2, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inspector: Inspector) -> Iterator[LiveService]:
    with live_service(tmp_path_factory.mktemp("fuzzed") / "home", inspector) as live:
        yield live


def test_the_document_holds(shared: LiveService) -> None:
    """A few requests of every operation; the answers are those that it promises."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(shared.service))
    headers = {"Authorization": f"Bearer {shared.key}"}
    excluded = [getattr(schemathesis.checks, EXCLUDED)]
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @QUICK
        @given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(headers=headers, excluded_checks=excluded)

        holds()
    assert tried >= 50


def what_there_is(live: LiveService, model: Path, directory: Path) -> dict[str, str]:
    """One of everything, as a job leaves it that ran and delivered; parameter of a path -> id."""
    fields = job_fields(live, model, directory)
    post, database = live.http.post, live.service.database
    job = post("/v1/jobs", json=fields).json()["id"]
    make_lane(database, "test")
    lease = take_job(database, "runner", "test", 60.0, 5)
    assert lease is not None
    lease.event("stage", {"stage": "search", "detail": ""})
    lease.trial(record(1), "recipe1")
    manifest = json.loads(MANIFEST.read_text())
    lease.end("finished", verdict="met", manifest=manifest)
    deliver(live, job)
    add_cells(live, job, record(1)["environment"], {"fc": {"dense:fp32": 0.002, "2:4:int8": None}})
    (live.service.files.job(job) / "log.txt").write_text("said")
    again = {"kind": "reverify", "cron": "0 3 * * *", "request": {"job": job}}
    schedule = post("/v1/schedules", json=again).json()["id"]
    assert post(f"/v1/schedules/{schedule}:run").status_code == 202
    hook = post("/v1/webhooks", json={"url": "https://example.com/"}).json()["id"]
    assert post(f"/v1/webhooks/{hook}:test").status_code == 202
    pending = {"kind": "dataset", "size_bytes": 5}
    return {
        "job_id": job, "name": "report.html", "schedule_id": schedule, "webhook_id": hook,
        "target_id": post("/v1/targets", json={"name": "box"}).json()["id"],
        "pending_id": post("/v1/uploads", json=pending).json()["id"],
    }  # fmt: skip


def test_the_document_holds_for_what_there_is(
    live: LiveService, residual_model: Path, tmp_path: Path
) -> None:
    """With drawn ids, all that is ever seen is that there is no such thing."""
    ids = what_there_is(live, residual_model, tmp_path)
    uploads = {kind: live.http.get(f"/v1/{kind}").json()["items"][0]["id"] for kind in UPLOADS}
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(live.service))
    headers = {"Authorization": f"Bearer {live.key}"}
    answered: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.method.upper() == "GET":
            kind = operation.path.removeprefix("/v1/").partition("/")[0]
            known = {**ids, "upload_id": uploads.get(kind, "")}
            names = re.findall(r"{(\w+)}", operation.path)
            case = operation.Case(path_parameters={name: known[name] for name in names})
            answered[operation.path] = case.call_and_validate(headers=headers).status_code
    none = "/v1/jobs/{job_id}/atlas"  # a search delivers none
    assert answered.pop(none) == 404
    assert set(answered.values()) == {200}, answered
    assert len(answered) >= 25


@pytest.mark.slow
def test_schemathesis_runs_clean(shared: LiveService, tmp_path: Path) -> None:
    """The program itself, with all its phases: edges of every parameter, fuzzing, sequences."""
    with listening(shared.service) as url:
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
             "-H", f"Authorization: Bearer {shared.key}", "--exclude-checks", EXCLUDED,
             # whoever rotates the key that asks, asks no more
             "--exclude-path-regex", ":rotate", "--max-examples", "20", "--seed", "1"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
