"""Jobs over HTTP: checked before they are accepted, listed, cancelled, resumed, deleted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from api.inspection import Inspector
from api.job_kinds import PREPARERS, SEARCH
from api.job_request import accepted_fields
from autosparse.client.records import MAY_CHANGE
from autosparse.pipeline import workspace
from autosparse.pipeline.config import JobConfig
from tests.api.live_service import LiveService, job_fields, live_service
from tests.api.seeded import add_job, begin, trial

Fields = dict[str, Any]


def test_an_accepted_job_waits_in_the_queue(live: LiveService, fields: Fields) -> None:
    answer = live.http.post("/v1/jobs", json={**fields, "name": "first", "priority": 3})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["name"], job["priority"]) == ("queued", "first", 3)
    assert job["request"]["model"] == fields["model"]
    assert live.http.get(f"/v1/jobs/{job['id']}").json() == job


def test_a_wrong_input_name_is_told_at_submission(
    live: LiveService, fields: Fields, classifier_model: Path
) -> None:
    model = live.upload("models", classifier_model.read_bytes()).json()["id"]
    answer = live.http.post("/v1/jobs", json={**fields, "model": model})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:autosparse:problem:data"
    assert "'image'" in problem["detail"]
    assert "x" in problem["hint"]
    assert live.http.get("/v1/jobs").json()["items"] == []
    assert list((live.service.files.root / "jobs").iterdir()) == []


WRONG: list[tuple[Fields, str]] = [
    ({"latency_budget": "fast"}, "budget"),
    ({"latency_budget": ["60%"]}, "latency-budget"),
    ({"max_drop": "-1pt"}, "drop"),
    ({"trials": 0}, "trials"),
    ({"trials": "many"}, "trials"),
    ({"space": "../../secret.yaml"}, "space"),
    ({"space": "nowhere"}, "space"),
    ({"strategy": "os:system"}, "strategy"),
    ({"metric": "os:system"}, "metric"),
    ({"backend": "subprocess"}, "backend"),
    ({"exclude": "no_layer_like_this"}, "exclude"),
    ({"exclude": "("}, "exclude"),
    ({"keep": ["conv=nothing"]}, "nothing"),
    ({"input_shape": ["image=1,2"]}, "input-shape"),
    ({"output_dir": "elsewhere"}, "output_dir"),
    ({"atlas": "/"}, "atlas"),
    ({"workers": 64}, "workers"),
    ({"ray_address": "192.0.2.1:6379"}, "ray_address"),
    ({"recover": "os:system"}, "recover"),
    ({"schema_version": 1}, "schema_version"),
    ({"surprise": 1}, "surprise"),
    ({"name": "\n"}, "name"),
    ({"name": 7}, "name"),
    ({"priority": 1e9}, "priority"),
    ({"time_limit": "10h", "latency_budget": "60%"}, "time_limit"),
    ({"model": 5}, "model"),
    ({"calibration": None}, "calibration"),
]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, inspector: Inspector, residual_model: Path
) -> Any:
    """A service and a job that would be accepted, for tests that change neither."""
    directory = tmp_path_factory.mktemp("shared")
    with live_service(directory / "home", inspector, max_time_limit=3600.0) as live:
        yield live, job_fields(live, residual_model, directory)


@pytest.mark.parametrize(("change", "named"), WRONG, ids=[str(w[0])[:40] for w in WRONG])
def test_what_is_wrong_is_named(shared: Any, change: Fields, named: str) -> None:
    live, fields = shared
    answer = live.http.post("/v1/jobs", json={**fields, **change})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert named in problem["detail"] + problem["hint"]
    assert str(live.service.files.root) not in answer.text


def test_training_counts_as_time(shared: Any) -> None:
    live, fields = shared
    asked = {"recover": "fine_tune", "train": fields["calibration"], "recover_time": "59m"}
    answer = live.http.post("/v1/jobs", json={**fields, **asked})
    assert answer.status_code == 422
    assert "recover_time" in answer.json()["detail"]
    accepted = live.http.post("/v1/jobs", json={**fields, **asked, "time_limit": "1m"})
    assert accepted.status_code == 202, accepted.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000])
def test_a_body_that_is_no_document_of_fields(live: LiveService, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = live.http.post("/v1/jobs", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_document_over_the_limit(live: LiveService) -> None:
    answer = live.http.post("/v1/jobs", json={"model": "x" * (2 << 20)})
    assert answer.status_code == 413


def test_the_same_idempotency_key_leads_to_the_same_job(live: LiveService, fields: Fields) -> None:
    headers = {"Idempotency-Key": "once"}
    first = live.http.post("/v1/jobs", json=fields, headers=headers)
    again = live.http.post("/v1/jobs", json=dict(reversed(fields.items())), headers=headers)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = live.http.post("/v1/jobs", json={**fields, "trials": 3}, headers=headers)
    assert other.status_code == 409
    assert len(live.http.get("/v1/jobs").json()["items"]) == 1


def test_two_with_one_idempotency_key_at_once_are_one_job(
    live: LiveService, fields: Fields, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were looked into before either was stored."""
    prepare, both = PREPARERS[SEARCH], threading.Barrier(2)

    def together(*given: Any) -> Any:
        both.wait(60)
        return prepare(*given)

    monkeypatch.setitem(PREPARERS, SEARCH, together)
    headers = {"Idempotency-Key": "one"}
    with ThreadPoolExecutor(2) as pool:
        sent = [
            pool.submit(live.http.post, "/v1/jobs", json=fields, headers=headers) for _ in range(2)
        ]
        answers = [one.result() for one in sent]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count("true") == 1
    assert len(live.http.get("/v1/jobs").json()["items"]) == 1
    assert len(list((live.service.files.root / "jobs").iterdir())) == 1


def test_cancel_resume_delete(live: LiveService, fields: Fields) -> None:
    path = f"/v1/jobs/{live.http.post('/v1/jobs', json=fields).json()['id']}"
    assert live.http.delete(path).status_code == 409
    assert live.http.post(f"{path}:resume").status_code == 409
    assert live.http.post(f"{path}:cancel").json()["state"] == "cancelled"
    assert live.http.post(f"{path}:cancel").status_code == 409
    assert live.http.delete(f"/v1/models/{fields['model']}").status_code == 409
    resumed = live.http.post(f"{path}:resume", json={"latency_budget": "40%"})
    assert resumed.status_code == 202
    assert resumed.json()["state"] == "queued"
    assert resumed.json()["request"]["latency_budget"] == "40%"
    assert live.http.post(f"{path}:cancel").status_code == 200
    refused = live.http.post(f"{path}:resume", json={"model": fields["model"]})
    assert refused.status_code == 422
    assert live.http.delete(path).status_code == 204
    assert live.http.get(path).status_code == 404
    assert list((live.service.files.root / "jobs").iterdir()) == []
    assert live.http.delete(f"/v1/models/{fields['model']}").status_code == 204


def test_what_may_change_does_not_change_what_evidence_means() -> None:
    assert set(MAY_CHANGE) <= JobConfig.model_fields.keys()
    assert not set(MAY_CHANGE) & set(workspace._MUST_NOT_CHANGE)


def test_no_field_of_a_job_leads_to_a_file_of_the_server() -> None:
    assert "output_dir" not in accepted_fields()
    assert not {"atlas", "ray_address", "workers"} & set(accepted_fields())
    assert {"model", "calibration", "validation", "latency_budget"} <= set(accepted_fields())


def test_a_target_file_decides(live: LiveService, fields: Fields) -> None:
    target = live.http.post("/v1/targets", json={"name": "box", "threads": 2}).json()["id"]
    accepted = live.http.post("/v1/jobs", json={**fields, "target": target})
    assert accepted.status_code == 202, accepted.text
    refused = live.http.post("/v1/jobs", json={**fields, "target": target, "threads": 1})
    assert refused.status_code == 422
    assert "contradicts" in refused.json()["detail"]


def test_a_key_has_a_quota_of_jobs(
    tmp_path: Path, inspector: Inspector, residual_model: Path
) -> None:
    with live_service(tmp_path / "home", inspector, max_unfinished_jobs=1) as live:
        fields = job_fields(live, residual_model, tmp_path)
        first = live.http.post("/v1/jobs", json=fields)
        assert first.status_code == 202
        assert live.http.post("/v1/jobs", json=fields).status_code == 429
        live.http.post(f"/v1/jobs/{first.json()['id']}:cancel")
        assert live.http.post("/v1/jobs", json=fields).status_code == 202


def test_a_list_is_filtered_by_state(live: LiveService, fields: Fields) -> None:
    first, second = (live.http.post("/v1/jobs", json=fields).json()["id"] for _ in range(2))
    live.http.post(f"/v1/jobs/{first}:cancel")
    listed = live.http.get("/v1/jobs?state=queued").json()["items"]
    assert [job["id"] for job in listed] == [second]
    assert live.http.get("/v1/jobs?state=lost").status_code == 422


def test_a_list_takes_as_long_for_many_as_for_one(live: LiveService) -> None:
    """One look for the best trials of all of them; of two environments, the last one counts."""
    looks: list[str] = []

    def count(*given: Any) -> None:
        looks.append(given[2])

    event.listen(live.service.database.engine, "before_cursor_execute", count)
    took = []
    for number in range(1, 4):
        lease = begin(live, add_job(live, f"job {number}"))
        lease.trial(trial(1, 0.5, 0.01, {"fc": "dense:fp32"}), "recipe1")
        elsewhere = trial(1, 0.1 * number, 0.01, {"fc": "dense:fp32"})
        lease.trial({**elsewhere, "environment": "elsewhere"}, "recipe1")
        looks.clear()
        listed = live.http.get("/v1/jobs").json()["items"]
        took.append(len(looks))
    assert took == [took[0]] * 3
    assert not any(name in look for look in looks for name in ("jobs.manifest", "jobs.config"))
    told = {job["name"]: job["best"]["latency_ratio"] for job in listed}
    assert told == {f"job {n}": 0.1 * n for n in range(1, 4)}
    assert all(job["manifest"] is None for job in listed)


def test_the_document_of_the_api_describes_a_job(live: LiveService) -> None:
    document = live.http.get("/openapi.json").json()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    schema = body["schema"]
    schema = document["components"]["schemas"].get(schema.get("$ref", "").split("/")[-1], schema)
    assert "latency_budget" in schema["required"]
    told = schema["properties"]["threads"]["description"]
    assert told == JobConfig.model_fields["threads"].description
    assert "output_dir" not in schema["properties"]
    example = schema["examples"][0]
    assert set(schema["required"]) <= set(example) <= set(schema["properties"])


def test_uploads_of_another_key_are_not_found(live: LiveService, fields: Fields) -> None:
    assert live.http.post("/v1/jobs", json=fields, headers=live.new_key()).status_code == 404
