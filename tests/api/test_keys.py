"""Keys: none, wrong, revoked, without the scope; and another key's ids on every route."""

from __future__ import annotations

from typing import Any

import pytest

from api.app import create_app
from api.keys import authenticate
from api.settings import ServerSettings
from api.tables import KeyRow
from autosparse.errors import ConfigError, UnauthenticatedError
from tests.api.live_service import LiveService, live_service
from tests.api.seeded import add_device

OPEN = {"/healthz"}
ADMIN_ONLY = {"/metrics", "/v1/keys", "/v1/keys/{key_id}"}


def routes(live: LiveService) -> list[tuple[str, str]]:
    """Every method and path of the application."""
    document = create_app(live.service).openapi()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item]


def test_every_route_but_one_needs_a_key(live: LiveService) -> None:
    found = routes(live)
    assert len(found) > 25
    for method, path in found:
        filled = path.replace("{name}", "x").replace("{", "").replace("}", "")
        answer = live.http.request(method, filled, headers={"Authorization": ""})
        if path in OPEN:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"


def bad_keys(live: LiveService) -> list[str]:
    id_, _, secret = live.key.partition(".")
    return [
        "", "Bearer", "Bearer ", f"Basic {live.key}", f"Bearer {id_}", f"Bearer {id_}.",
        f"Bearer {id_}.{secret[:-1]}", f"Bearer {id_}.{secret}x", f"Bearer .{secret}",
        f"Bearer key_open.{secret}", f"Bearer {'a' * 5000}.{secret}", "Bearer ' OR 1=1 --.x",
    ]  # fmt: skip


def test_no_wrong_key_opens(live: LiveService) -> None:
    for header in bad_keys(live):
        with pytest.raises(UnauthenticatedError):
            authenticate(live.service.database, header)
    assert authenticate(live.service.database, f"Bearer {live.key}").scopes >= {"read", "submit"}


def test_a_revoked_key_is_void(live: LiveService) -> None:
    made = live.http.post("/v1/keys", json={"name": "ci", "scopes": ["read"]})
    assert made.status_code == 201
    header = {"Authorization": f"Bearer {made.json()['key']}"}
    assert live.http.get("/v1/jobs", headers=header).status_code == 200
    live.http.delete(f"/v1/keys/{made.json()['id']}")
    assert live.http.get("/v1/jobs", headers=header).status_code == 401


def test_a_secret_is_not_stored_and_told_once(live: LiveService) -> None:
    secret = live.key.partition(".")[2]
    assert secret not in live.http.get("/v1/keys").text
    with live.service.database.reading() as session:
        (row,) = session.query(KeyRow).all()
    assert secret.encode() not in row.digest


def test_scopes_are_kept_apart(live: LiveService) -> None:
    reader, submitter = live.new_key("read"), live.new_key("submit")
    assert live.http.get("/v1/models", headers=reader).status_code == 200
    assert live.http.post("/v1/jobs", json={}, headers=reader).status_code == 403
    assert live.http.post("/v1/models", content=b"x", headers=reader).status_code == 403
    assert live.http.get("/v1/models", headers=submitter).status_code == 403
    for path in ("/metrics", "/v1/keys"):
        assert live.http.get(path, headers=reader).status_code == 403
        assert live.http.get(path, headers=submitter).status_code == 403


def test_another_keys_ids_lead_nowhere(live: LiveService, fields: dict[str, Any]) -> None:
    """Whatever the route: as if the thing did not exist, and it is unchanged."""
    target = live.http.post("/v1/targets", json={"name": "box"}).json()["id"]
    job = live.http.post("/v1/jobs", json=fields).json()["id"]
    atlas = {"kind": "refresh_atlas", "cron": "0 3 * * *", "request": {"model": fields["model"]}}
    schedule = live.http.post("/v1/schedules", json=atlas).json()["id"]
    hook = live.http.post("/v1/webhooks", json={"url": "https://example.com/"}).json()["id"]
    large = {"kind": "dataset", "size_bytes": 5}
    pending = live.http.post("/v1/uploads", json=large).json()["id"]
    ids = {
        "target_id": target, "job_id": job, "name": "manifest.json", "schedule_id": schedule,
        "webhook_id": hook, "pending_id": pending, "key_id": live.key.partition(".")[0],
        "device_name": add_device(live, "board-a"),
    }  # fmt: skip
    other = live.new_key()
    tried = 0
    for method, path in routes(live):
        if "{" not in path or path in ADMIN_ONLY:
            continue
        upload = fields["validation"] if "datasets" in path else fields["model"]
        url = path.format(**ids, upload_id=upload)
        # an empty document is one that no route minds before it has looked for the thing
        answer = live.http.request(method, url, headers=other, json={})
        assert answer.status_code == 404, (method, path, answer.text)
        tried += 1
    assert tried >= 14
    for kind in ("models", "datasets", "targets", "jobs"):
        assert live.http.get(f"/v1/{kind}", headers=other).json()["items"] == []
        assert live.http.get(f"/v1/{kind}?after={job}", headers=other).status_code == 404
        assert live.http.get(f"/v1/{kind}").json()["items"]
    assert live.http.get(f"/v1/jobs/{job}").json()["state"] == "queued"


def test_without_keys_only_at_home() -> None:
    with pytest.raises(ConfigError, match="everybody"):
        ServerSettings(keys=False, host="0.0.0.0")
    assert ServerSettings(keys=False, host="127.0.0.1").is_loopback
    assert ServerSettings(host="192.0.2.1").is_loopback is False


def test_without_keys_no_page_from_elsewhere_gets_in(tmp_path: Any, inspector: Any) -> None:
    with live_service(tmp_path / "home", inspector, keys=False) as live:
        assert live.http.get("/v1/jobs").status_code == 200
        answer = live.http.get("/v1/jobs", headers={"Host": "evil.example"})
        assert answer.status_code == 400
        for origin in ("https://evil.example", "null", "http://localhost:1", "http://localhost.x"):
            sent = live.http.post("/v1/targets", json={}, headers={"Origin": origin})
            assert sent.status_code == 400, origin
        assert live.http.get("/v1/targets").json()["items"] == []
        own = {"Origin": "http://localhost"}
        assert live.http.post("/v1/targets", json={}, headers=own).status_code == 201


def test_every_route_has_words(live: LiveService) -> None:
    for path, item in create_app(live.service).openapi()["paths"].items():
        for method, operation in item.items():
            assert operation.get("description"), (method, path)
