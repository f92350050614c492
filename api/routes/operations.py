"""`/healthz`, `/metrics`, and the keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy import func, select, text

from api import key_ends, keys
from api.metrics import REGISTRY
from api.service import Admin, Anybody, Id, TheService
from api.tables import JobRow, LaneRow, UploadRow
from api.uploads import check_name
from autosparse.client.key_records import KeyInfo, NewKey, Scope
from autosparse.client.records import Page
from autosparse.errors import ConfigError

router = APIRouter()
_STATES = ("queued", "running", "finished", "failed", "cancelled")


@router.get("/healthz", tags=["operations"])
def get_health(service: TheService) -> dict[str, str]:
    """Whether the server and its database answer. Needs no key."""
    with service.database.reading() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok"}


@router.get("/metrics", tags=["operations"], response_class=Response)
def get_metrics(service: TheService, caller: Admin) -> Response:
    """Figures for Prometheus, of everybody's jobs together."""
    registry = CollectorRegistry()
    jobs = Gauge("autosparse_jobs", "Jobs by state", ["state"], registry=registry)
    stored = Gauge("autosparse_stored_bytes", "Uploads together", registry=registry)
    lanes = Gauge(
        "autosparse_lane_lease_until_seconds", "Until when a device's lane is taken", ["device"],
        registry=registry,
    )  # fmt: skip
    with service.database.reading() as session:
        count = select(JobRow.state, func.count()).group_by(JobRow.state)
        counts = {row[0]: row[1] for row in session.execute(count)}
        stored.set(session.scalar(select(func.sum(UploadRow.size_bytes))) or 0)
        for lane in session.scalars(select(LaneRow)):
            lanes.labels(lane.device).set(lane.until)
    for state in _STATES:
        jobs.labels(state).set(counts.get(state, 0))
    body = generate_latest(REGISTRY) + generate_latest(registry)
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
