"""The dashboard: pages that hold nothing secret, and what they need beside the API."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import jobs
from api.deliverables import deliverables
from api.delivered_atlas import delivered_atlas
from api.live_anytime import live_anytime
from api.live_front import live_front
from api.service import Id, Reader, TheService
from api.signed_links import make_link
from autosparse.artifacts.report import report_asset
from autosparse.client.records import LinkInfo
from autosparse.errors import NotFoundError

router = APIRouter()
_TYPES = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}  # fmt: skip
_OF_THE_REPORT = ("report.css", "atlas.css", "report.js")
_SHOWN = ("report.html", "atlas.html")
# Only files of this server, and no form or frame that could carry a key elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}  # fmt: skip
IfNoneMatch = Annotated[str | None, Header()]


@router.get("/", include_in_schema=False)
def get_page(if_none_match: IfNoneMatch = None) -> Response:
    """The dashboard; it asks for a key by itself."""
    return _answer("index.html", if_none_match)


@router.get("/docs", include_in_schema=False)
def get_docs() -> Response:
    """Where the API describes itself: a page of the dashboard, made from `/openapi.json`."""
    return RedirectResponse("/#/docs", headers=_HEADERS)


@router.get("/dashboard/{name}", include_in_schema=False)
def get_part(name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A style sheet or script of the dashboard."""
    return _answer(name, if_none_match)


_PIECE: dict[str, Any] = {
    "tags": ["jobs"], "response_class": HTMLResponse,
    "responses": {200: {"content": {"text/html": {}}}},
}  # fmt: skip
"""What the pieces of pages have in common that are drawn here, in the report's style."""


@router.get("/v1/jobs/{job_id}/front", **_PIECE)
def get_front(job_id: Id, service: TheService, caller: Reader) -> HTMLResponse:
    """The plot of quality against latency so far, as a piece of a page in the report's style."""
    with service.database.reading() as session:
        page = live_front(service, session, jobs.find_job(session, caller, job_id))
    return HTMLResponse(page, headers=_HEADERS)


@router.get("/v1/jobs/{job_id}/anytime", **_PIECE)
def get_anytime(job_id: Id, service: TheService, caller: Reader) -> HTMLResponse:
    """How good the best answer was after how much work, as a piece of a page like the front."""
    with service.database.reading() as session:
        page = live_anytime(service, session, jobs.find_job(session, caller, job_id))
    return HTMLResponse(page, headers=_HEADERS)


@router.get("/v1/jobs/{job_id}/atlas", **_PIECE)
def get_atlas(job_id: Id, service: TheService, caller: Reader) -> HTMLResponse:
    """Latency over sparsity of every layer shape of an atlas, as a piece of a page."""
    with service.database.reading() as session:
        jobs.find_job(session, caller, job_id)
    return HTMLResponse(delivered_atlas(service, job_id), headers=_HEADERS)


@router.post("/v1/jobs/{job_id}/links", status_code=201, tags=["jobs"])
def make_delivery_link(
    job_id: Id,
    service: TheService,
    caller: Reader,
    artifact: Annotated[
        str | None,
        Body(
            embed=True,
            description="An artifact's name; without it, the whole bundle.",
            examples=["report.html"],
        ),
    ] = None,
) -> LinkInfo:
    """A link to a delivery that a browser opens without a key, for a minute."""
    with service.database.reading() as session:
        jobs.find_job(session, caller, job_id)
    if artifact is None:
        path = f"/v1/jobs/{job_id}/bundle"
    else:
        if artifact not in deliverables(service, job_id):
            raise NotFoundError(f"the job delivered no file {artifact!r}")
        path = f"/v1/jobs/{job_id}/artifacts/{artifact}"
    return make_link(service.database, caller, path, show=artifact in _SHOWN)


def _answer(name: str, known: str | None) -> Response:
    content, tag = _part(name)
    headers = {**_HEADERS, "ETag": tag}
    if known == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


@cache
def _parts() -> frozenset[str]:
    own = {item.name for item in resources.files("api.dashboard").iterdir()}
    return frozenset(
        {name for name in own if name.rpartition(".")[2] in _TYPES} | {*_OF_THE_REPORT}
    )


@cache
def _stored(name: str) -> tuple[bytes, str]:
    if name in _OF_THE_REPORT:
        content = report_asset(name).encode()
    else:
        content = resources.files("api.dashboard").joinpath(name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _part(name: str) -> tuple[bytes, str]:
    """A part of the dashboard and its tag; a name that is not in the list leads nowhere."""
    if name not in _parts():
        raise NotFoundError("there is no such page", hint="the dashboard begins at /")
    return _stored(name)
