"""Another key's things in every field of every document: refused, as if they did not exist.

Documents and their fields are found in the API's own description, so that a new one is tried, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.app import create_app
from api.job_request import JobRequest
from api.keys import SCOPES, make_key
from api.kind_requests import AtlasRequest, ReverifyRequest
from api.tables import Base
from autosparse.client.schedule_records import ScheduleKind
from tests.api.live_service import BUDGET, LiveService, job_fields
from tests.api.schedule_world import answerable_job
from tests.api.seeded import add_device

Document = dict[str, Any]
Things = Mapping[str, str]
# What a key can have, and an id of the same form that nobody has.
NOBODYS = {
    "model": "mdl_" + "A" * 22, "dataset": "dat_" + "A" * 22, "target": "tgt_" + "A" * 22,
    "job": "job_" + "A" * 22, "device": "board-x",
}  # fmt: skip
NAMED_BY = {
    "model": "model", "target": "target", "job": "job", "device": "device",
    "calibration": "dataset", "train": "dataset", "validation": "dataset", "test": "dataset",
}  # fmt: skip
# words for people, and patterns on the names of layers: whatever they are, they lead nowhere
LEADS_NOWHERE = {"name", "exclude", "group"}
JOB = {"model": "{model}", "calibration": "{dataset}", "validation": "{dataset}", **BUDGET}
CRON = "0 3 * * *"
OF_A_SCHEDULE: Mapping[str, tuple[Document, Document]] = {
    "search": (JOB, JobRequest.model_json_schema()),
    "reverify": ({"job": "{job}"}, ReverifyRequest.model_json_schema()),
    "refresh_atlas": ({"model": "{model}"}, AtlasRequest.model_json_schema()),
}
DOCUMENTS: Mapping[str, Document] = {
    "POST /v1/jobs": JOB,
    "POST /v1/jobs/{job_id}:resolve": {"latency_budget": "6ms"},
    "POST /v1/jobs/{job_id}:reverify": {},
    "POST /v1/jobs/{job_id}:resume": {},
    "PATCH /v1/jobs/{job_id}": {},
    "POST /v1/jobs/{job_id}/links": {},
    "POST /v1/atlases": {"model": "{model}"},
    "POST /v1/schedules": {"kind": "search", "cron": CRON, "request": {}},
    "PATCH /v1/schedules/{schedule_id}": {},
    "POST /v1/targets": {"name": "box"},
    "POST /v1/uploads": {"kind": "model", "size_bytes": 1},
    "POST /v1/webhooks": {"url": "https://example.com/"},
    "POST /v1/keys": {"name": "ci", "scopes": ["read"]},
    "POST /v1/devices": {"name": "board-b", "address": "127.0.0.1:9190", "key": "5e" * 32},
    "POST /v1/devices/{device_name}:renew": {"key": "5e" * 32},
}
"""A document of every operation that takes one, with places for what the caller has itself."""


@dataclass(frozen=True)
class TwoKeys:
    """What two keys have, and a client of one of them."""

    http: TestClient
    mine: Things
    theirs: Things
    live: LiveService

    def rows(self) -> dict[str, int]:
        """How much is stored of everything."""
        with self.live.service.database.reading() as session:
            return {
                table.name: session.scalar(select(func.count()).select_from(table)) or 0
                for table in Base.metadata.sorted_tables
            }


@pytest.fixture(scope="module")
def keys(
    shared_live: LiveService, residual_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoKeys]:
    service = shared_live.service
    other = make_key(service.database, "other", SCOPES)
    headers = {"Authorization": f"Bearer {other.key}"}
    app, base = create_app(service), "http://localhost"
    with TestClient(app, base, headers=headers, raise_server_exceptions=False) as http:
        mine = LiveService(service, http, other.key)
        directory = tmp_path_factory.mktemp("uploads")
        fields = job_fields(mine, residual_model, directory)
        own = things(mine, fields, answerable_job(service, other.id, fields), "board-m")
        weekly = {"kind": "refresh_atlas", "cron": CRON, "request": {"model": fields["model"]}}
        schedule = http.post("/v1/schedules", json=weekly).json()["id"]
        paths = {"job_id": own["job"], "schedule_id": schedule, "device_name": own["device"]}
        fields = job_fields(shared_live, residual_model, directory)
        job = shared_live.http.post("/v1/jobs", json=fields).json()["id"]
        yield TwoKeys(http, {**own, **paths}, things(shared_live, fields, job, "board-a"), mine)


def things(live: LiveService, fields: Document, job: str, device: str) -> dict[str, str]:
    """One of everything that a key can have."""
    add_device(live, device)
    target = live.http.post("/v1/targets", json={"name": "box"}).json()["id"]
    return {
        "model": fields["model"], "dataset": fields["validation"], "target": target, "job": job,
        "device": device,
    }  # fmt: skip


def described(live: LiveService) -> dict[str, Document]:
    """Every operation that takes a document, with the fields of that."""
    whole = create_app(live.service).openapi()
    found = {}
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = content["application/json"]["schema"]
                found[f"{method.upper()} {path}"] = fields_in(schema, whole)
    return found


def alternatives(schema: Document, whole: Document) -> list[Document]:
    """What a value may be, each with its own schema."""
    if "$ref" in schema:
        place: Any = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        return alternatives(place, whole)
    parts = schema.get("anyOf", [])
    return [each for part in parts for each in alternatives(part, whole)] or [schema]


def fields_in(schema: Document, whole: Document) -> Document:
    """The fields of a document that take text, or a list of texts: a value of each."""
    found: Document = {}
    for each in alternatives(schema, whole):
        for name, field in each.get("properties", {}).items():
            kinds = {kind.get("type"): kind for kind in alternatives(field, whole)}
            if "string" in kinds:
                found[name] = "{}"
            elif "items" in kinds.get("array", {}):
                items = alternatives(kinds["array"]["items"], whole)
                if any(item.get("type") == "string" for item in items):
                    found[name] = ["{}"]
    return found


def filled(document: Any, things: Things) -> Any:
    """A document with what somebody has in its places."""
    if isinstance(document, str):
        return things[document[1:-1]] if document[:1] == "{" else document
    if isinstance(document, dict):
        return {name: filled(value, things) for name, value in document.items()}
    return document


def ids_for(field: str) -> list[str]:
    """The kinds of things that are tried in a field: its own, or several where it names none."""
    return [NAMED_BY[field]] if field in NAMED_BY else ["model", "target", "job"]


def refused(keys: TwoKeys, operation: str, document: Document, names: tuple[str, ...]) -> None:
    """Put what is not the caller's into one place of a document."""
    method, _, path = operation.partition(" ")
    *within, field = names
    place = document
    for name in within:
        place = place[name]
    as_a_list = isinstance(place.get(field), list)
    before = keys.rows()
    for kind in ids_for(field):
        told = []
        for things in (keys.theirs, NOBODYS):
            place[field] = [things[kind]] if as_a_list else things[kind]
            answer = keys.http.request(method, path.format(**keys.mine), json=document)
            assert 400 <= answer.status_code < 500, (operation, names, kind, answer.text)
            told.append(answer.text.replace(things[kind], ""))
        assert told[0] == told[1], "the answer tells that there is such a thing"
    assert keys.rows() == before


def test_every_document_is_tried(shared_live: LiveService) -> None:
    found = described(shared_live)
    assert found.keys() == DOCUMENTS.keys()
    assert OF_A_SCHEDULE.keys() == set(get_args(ScheduleKind))
    named = NAMED_BY.keys() - {"job"}
    assert named <= found["POST /v1/jobs"].keys()
    assert {"model", "calibration", "target", "device"} <= found["POST /v1/atlases"].keys()
    for operation in ("POST /v1/jobs/{job_id}:resolve", "POST /v1/jobs/{job_id}:reverify"):
        assert "device" in found[operation]


@pytest.mark.parametrize("operation", DOCUMENTS)
def test_what_is_anothers_is_not_there(keys: TwoKeys, operation: str) -> None:
    for field, empty in described(keys.live)[operation].items():
        if field not in LEADS_NOWHERE:
            document = filled(DOCUMENTS[operation], keys.mine)
            refused(keys, operation, {**document, field: empty}, (field,))


@pytest.mark.parametrize("kind", OF_A_SCHEDULE)
def test_nor_is_it_for_a_schedule(keys: TwoKeys, kind: str) -> None:
    """What its jobs will be asked is checked as if one were submitted now."""
    of_job, schema = OF_A_SCHEDULE[kind]
    fields = fields_in(schema, schema)
    assert NAMED_BY.keys() & fields.keys() >= {"device", "job" if kind == "reverify" else "model"}
    for field, empty in fields.items():
        if field not in LEADS_NOWHERE:
            asked = {**filled(of_job, keys.mine), field: empty}
            document = {"kind": kind, "cron": CRON, "request": asked}
            refused(keys, "POST /v1/schedules", document, ("request", field))
