"""`/healthz`, `/metrics`, and the keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from api import key_ends, keys
from api.gauges import gauges
from api.metrics import REGISTRY
from api.service import Admin, Anybody, Id, TheService
from api.uploads import check_name
from autosparse.client.key_records import KeyInfo, NewKey, Scope
from autosparse.client.records import Page
from autosparse.errors import ConfigError

router = APIRouter()


@router.get("/healthz", tags=["operations"])
def get_health(service: TheService) -> dict[str, str]:
    """Whether the server and its database answer. Needs no key."""
    with service.database.reading() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok"}


@router.get("/metrics", tags=["operations"], response_class=Response)
def get_metrics(service: TheService, caller: Admin) -> Response:
    """Figures for Prometheus, of everybody's jobs together."""
    body = generate_latest(REGISTRY) + generate_latest(gauges(service.database))
    return Response(body, media_type=CONTENT_TYPE_LATEST)


@router.post("/v1/keys", status_code=201, tags=["keys"])
def make_key(
    service: TheService,
    caller: Admin,
    name: Annotated[str, Body(examples=["continuous integration"])],
    scopes: Annotated[list[Scope], Body(examples=[["read", "submit"]])],
) -> NewKey:
    """Make a key. The answer holds it once; only its digest is stored."""
    if not scopes:
        raise ConfigError("a key needs at least one scope", hint="read, submit or admin")
    return keys.make_key(service.database, check_name(name), scopes, caller.id)


@router.get("/v1/keys", tags=["keys"])
def list_keys(service: TheService, caller: Admin) -> Page[KeyInfo]:
    """Every key, without its secret."""
    return Page(items=keys.list_keys(service.database))


# before /{key_id}: a path with a verb is no id
@router.post("/v1/keys/{key_id}:rotate", tags=["keys"])
def rotate_key(key_id: Id, service: TheService, caller: Anybody) -> NewKey:
    """Give the key that asks another secret; the former one is void at once."""
    return key_ends.rotate_key(service.database, key_id, caller.id)


@router.delete("/v1/keys/{key_id}", tags=["keys"])
def revoke_key(key_id: Id, service: TheService, caller: Admin) -> KeyInfo:
    """Make a key void at once, and cancel its unfinished jobs. What it owns stays.

    The last key with `admin` cannot be revoked.
    """
    return key_ends.revoke_key(service.database, key_id, caller.id)
