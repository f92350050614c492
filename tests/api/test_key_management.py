"""Making and revoking keys: who may, what is written down, and that nobody locks everybody out."""

from __future__ import annotations

import logging
import threading
from typing import Any

import httpx2 as httpx
import pytest

from api.job_ledger import add_event
from api.key_ends import revoke_key
from api.keys import OPEN_KEY, make_key
from api.tables import JobRow, KeyRow
from autosparse.errors import ConflictError
from tests.api.live_service import LiveService, listening, live_service
from tests.api.seeded import add_job, begin


def made(live: LiveService, *scopes: str) -> tuple[str, dict[str, str]]:
    """The id of a new key, and the header that carries it."""
    answer = live.http.post("/v1/keys", json={"name": "made", "scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {"Authorization": f"Bearer {answer.json()['key']}"}


def own_id(live: LiveService) -> str:
    return live.key.partition(".")[0]


def test_the_last_key_that_makes_others_stays(live: LiveService) -> None:
    first = own_id(live)
    made(live, "read", "submit")
    refused = live.http.delete(f"/v1/keys/{first}")
    assert refused.status_code == 409
    assert "serve --new-key" in refused.json()["hint"]
    second, header = made(live, "admin")
    revoked = live.http.delete(f"/v1/keys/{first}").json()["revoked"]
    assert live.http.get("/v1/keys").status_code == 401
    # a void key counts for nothing, and revoking it again changes nothing
    assert live.http.delete(f"/v1/keys/{second}", headers=header).status_code == 409
    again = live.http.delete(f"/v1/keys/{first}", headers=header)
    assert (again.status_code, again.json()["revoked"]) == (200, revoked)


def test_of_two_that_revoke_each_other_one_stays(live: LiveService) -> None:
    database = live.service.database
    ids = [own_id(live), made(live, "admin")[0]]
    together, refused = threading.Barrier(2), list[str]()

    def revoke(id_: str) -> None:
        together.wait()
        try:
            revoke_key(database, id_)
        except ConflictError:
            refused.append(id_)

    threads = [threading.Thread(target=revoke, args=(id_,)) for id_ in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        left = [id_ for id_ in ids if session.get_one(KeyRow, id_).revoked is None]
    assert left == refused
    assert len(left) == 1


def test_a_key_without_admin_manages_none(live: LiveService) -> None:
    """Not others, not itself, and it makes none, with more than it has or without."""
    mine, header = made(live, "read", "submit")
    tried = [
        live.http.get("/v1/keys", headers=header),
        live.http.post("/v1/keys", json={"name": "x", "scopes": ["admin"]}, headers=header),
        live.http.post("/v1/keys", json={"name": "x", "scopes": ["read"]}, headers=header),
        *(live.http.delete(f"/v1/keys/{id_}", headers=header) for id_ in (mine, own_id(live))),
    ]
    assert [answer.status_code for answer in tried] == [403] * 5
    assert "'admin'" in tried[0].json()["detail"]
    listed = live.http.get("/v1/keys").json()["items"]
    assert {key["id"] for key in listed} == {mine, own_id(live)}
    assert not any(key["revoked"] for key in listed)


def test_a_key_with_admin_alone_sees_no_things(live: LiveService) -> None:
    _, header = made(live, "admin")
    assert live.http.get("/v1/keys", headers=header).status_code == 200
    for path in ("/v1/jobs", "/v1/models", "/v1/targets", "/v1/schedules", "/v1/webhooks"):
        assert live.http.get(path, headers=header).status_code == 403, path


BAD: list[dict[str, Any]] = [
    {"name": "x", "scopes": []}, {"name": "x", "scopes": ["root"]}, {"scopes": ["read"]},
    {"name": "x" * 201, "scopes": ["read"]}, {"name": "a\nb", "scopes": ["read"]},
    {"name": "x"}, {"name": 1, "scopes": ["read"]}, {"name": "x", "scopes": "read"},
]  # fmt: skip


def test_a_bad_key_is_not_made(live: LiveService) -> None:
    for asked in BAD:
        assert live.http.post("/v1/keys", json=asked).status_code == 422, asked
    assert len(live.http.get("/v1/keys").json()["items"]) == 1


def test_what_is_no_key_is_not_revoked(live: LiveService) -> None:
    for id_ in ("key_none", OPEN_KEY, "job_1"):
        assert live.http.delete(f"/v1/keys/{id_}").status_code == 404


def test_what_stands_for_everybody_is_no_key(tmp_path: Any, inspector: Any) -> None:
    """Were it revoked, webhooks of a server without keys would fall silent."""
    with live_service(tmp_path / "home", inspector, keys=False) as live:
        assert OPEN_KEY not in live.http.get("/v1/keys").text
        assert live.http.delete(f"/v1/keys/{OPEN_KEY}").status_code == 404


def test_it_is_written_down_who_did_what(
    live: LiveService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "autosparse.audit")
    id_, header = made(live, "read")
    for _ in range(2):  # the second changes nothing
        live.http.delete(f"/v1/keys/{id_}")
    at_the_server = make_key(live.service.database, "lost", ("admin",)).id
    lines = [line for line in caplog.records if line.name == "autosparse.audit"]
    told = [line.__dict__["about"] for line in lines]
    assert [(line["key"], line["done"], line["by"]) for line in told] == [
        (id_, "made", own_id(live)),
        (id_, "revoked", own_id(live)),
        (at_the_server, "made", "the server"),
    ]
    assert told[0]["scopes"] == ("read",)
    assert header["Authorization"].partition(".")[2] not in str(
        [line.__dict__ for line in caplog.records]
    )


def test_with_a_key_end_its_jobs(live: LiveService) -> None:
    """Nobody else could cancel them, and they would keep the device."""
    _, header = made(live, "admin")
    waiting, running = (add_job(live, name) for name in ("waiting", "running"))
    begin(live, running)
    assert live.http.delete(f"/v1/keys/{own_id(live)}", headers=header).status_code == 200
    with live.service.database.reading() as session:
        rows = [session.get_one(JobRow, job) for job in (waiting, running)]
        assert [row.state for row in rows] == ["cancelled", "running"]
        assert all(row.cancel_requested for row in rows)


def test_a_rotated_key_keeps_what_it_owns(live: LiveService) -> None:
    mine, header = made(live, "read")
    job = add_job(live, "kept", owner=mine)
    answer = live.http.post(f"/v1/keys/{mine}:rotate", headers=header)
    assert (answer.status_code, answer.json()["id"]) == (200, mine)
    new = {"Authorization": f"Bearer {answer.json()['key']}"}
    assert live.http.get("/v1/jobs", headers=header).status_code == 401
    assert [found["id"] for found in live.http.get("/v1/jobs", headers=new).json()["items"]] == [
        job
    ]
    assert live.http.get("/v1/keys", headers=new).status_code == 403, "it may what it might"
    # not with admin either: whoever has the secret has what the key owns
    assert live.http.post(f"/v1/keys/{mine}:rotate").status_code == 404


@pytest.mark.parametrize("end", ["revoked", pytest.param("rotated", marks=pytest.mark.slow)])
def test_streams_end_with_the_secret_that_opened_them(live: LiveService, end: str) -> None:
    mine, header = made(live, "read")
    job = add_job(live, "followed", owner=mine)
    with (
        listening(live.service) as url,
        httpx.Client(base_url=url, headers=header, timeout=60) as client,
        client.stream("GET", f"/v1/jobs/{job}/events") as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "id: 1"
        if end == "revoked":
            live.http.delete(f"/v1/keys/{mine}")
        else:
            live.http.post(f"/v1/keys/{mine}:rotate", headers=header)
        with live.service.database.writing() as session:
            row = session.get_one(JobRow, job)
            add_event(session, row, "note", {"text": "secret"})
        for line in lines:  # it ends, and tells nothing more
            assert "secret" not in line
