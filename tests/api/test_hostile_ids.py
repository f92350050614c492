"""What no id and no number of ours looks like, in every place that takes one, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.inspection import Inspector
from tests.api.live_service import LiveService, live_service

NAUGHTY = ["mdl_%00", "%00", "mdl_%FF", "mdl_%F0%9F%98%80", "mdl_" + "A" * 5000, "mdl_%0d%0ax"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, inspector: Inspector
) -> Iterator[LiveService]:
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").url("hostile")
    home = tmp_path_factory.mktemp("either") / "home"
    with live_service(home, inspector, database=url) as live:
        yield live


@pytest.mark.parametrize("naughty", NAUGHTY, ids=range(len(NAUGHTY)))
def test_in_a_query(either: LiveService, naughty: str) -> None:
    for kind in ("jobs", "models", "datasets", "targets", "schedules"):
        answer = either.http.get(f"/v1/{kind}?after={naughty}")
        assert answer.status_code in (404, 422), answer.text
    named = either.http.get(f"/v1/jobs?name={naughty}")
    assert named.status_code == 422 if len(naughty) > 200 else named.json()["items"] == []
    asked = {"model": "mdl_\x00", "calibration": "dat_x", "latency_budget": "60%"}
    assert either.http.post("/v1/jobs", json=asked).status_code == 404
    link = f"/v1/jobs/job_x/bundle?key={naughty}&until=9999999999&signature=x"
    for headers in ({}, {"Authorization": ""}):
        assert either.http.get(link, headers=headers).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize(
    "naughty", ["mdl_\x00", "\x00", "mdl_\ud800", "mdl_" + "A" * 5000, "\n"], ids=range(5)
)
def test_in_a_document(either: LiveService, naughty: str) -> None:
    """Nothing of it is kept, under no name: refused, and never by the database."""
    job = {"model": "mdl_x", "calibration": "dat_x", "latency_budget": "60%"}
    cron = {"cron": "0 3 * * *", "request": {"job": "job_x"}}
    documents: dict[str, list[dict[str, Any]]] = {
        "/v1/jobs": [
            *({**job, field: naughty} for field in (*job, "target", "name", "space", "metric")),
            {**job, naughty: 1}, {**job, "exclude": [naughty]}, {**job, "keep": [naughty]},
        ],
        "/v1/atlases": [{"model": naughty}, {"model": "mdl_x", "levels": [naughty]}],
        "/v1/schedules": [
            *(
                {"kind": "reverify", **cron, field: naughty}
                for field in ("cron", "time_zone", "name", "missed", "overlap", "kind")
            ),
            {"kind": "reverify", **cron, "request": {"job": naughty}},
            {"kind": "refresh_atlas", **cron, "request": {"model": naughty}},
        ],
        "/v1/webhooks": [{"url": naughty}, {"url": f"https://x.org/{naughty}"}],
        "/v1/uploads": [{"kind": "model", "size_bytes": 1, "name": naughty}],
        "/v1/targets": [{"name": naughty}, {"name": "x", "backend": naughty}],
        "/v1/keys": [{"name": naughty, "scopes": ["read"]}],
    }  # fmt: skip
    headers = [(b"Content-Type", b"application/json"), (b"Idempotency-Key", b"k\xff")]
    for path, bodies in documents.items():
        for body in bodies:
            answer = either.http.post(path, content=json.dumps(body), headers=headers)
            assert answer.status_code in (400, 404, 422), (path, repr(body)[:99], answer.text)
    for kind in ("jobs", "schedules", "webhooks", "targets"):
        assert either.http.get(f"/v1/{kind}").json()["items"] == []


@pytest.mark.parametrize("number", ["9" * 20, str(2**31), "-1", "1e3", "٣"])
def test_a_number_that_no_event_has(either: LiveService, number: str) -> None:
    path = "/v1/jobs/job_AAAAAAAAAAAAAAAAAAAAAA/events"
    headers = [(b"Last-Event-ID", number.encode())]
    assert either.http.get(path, headers=headers).status_code in (404, 422)
    assert either.http.get(f"{path}?after={number}").status_code in (404, 422)
    limit = either.http.get(f"/v1/jobs?limit={number}")
    assert limit.status_code == 422 or number == "٣"


def test_a_made_up_method_is_counted_as_other(either: LiveService) -> None:
    """Every word that is counted is kept as long as the server runs, and needs no key."""
    for number in range(3):
        assert either.http.request(f"MADE{number}", "/healthz").status_code == 405
    told = either.http.get("/metrics").text
    assert 'method="other"' in told
    assert "MADE" not in told
