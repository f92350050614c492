"""What a job says and delivers: `/events`, `/logs`, `/artifacts`, `/bundle`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from api import jobs
from api.deliverables import Deliverable, archive, deliverables
from api.ranged import INERT, file_answer
from api.service import Id, LinkedReader, Reader, Service, TheService
from api.shown_files import LOG, shown_directory
from autosparse.client.records import ArtifactInfo, Page
from autosparse.errors import NotFoundError

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])
_KEEP_ALIVE_SECONDS = 15.0
_LAST_SEQUENCE = 2**31 - 1  # that the database has numbers for
RangeHeader = Annotated[str | None, Header(alias="Range", max_length=100)]
IfRange = Annotated[str | None, Header(max_length=100)]


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def follow_events(
    job_id: Id,
    service: TheService,
    caller: Reader,
    last_event_id: Annotated[int | None, Header(ge=0, le=_LAST_SEQUENCE)] = None,
    after: Annotated[
        int, Query(ge=0, le=_LAST_SEQUENCE, description="Go on behind this sequence.")
    ] = 0,
) -> StreamingResponse:
    """Follow a job as server-sent events, from the start or behind `Last-Event-ID`.

    The stream ends with the job. Ids are sequences: without gaps, and each once.
    """

    def check() -> None:
        with service.database.reading() as session:
            jobs.find_job(session, caller, job_id)

    await to_thread.run_sync(check)
    start = after if last_event_id is None else last_event_id
    return StreamingResponse(
        _events(service, job_id, start), media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )  # fmt: skip


@router.get("/logs", response_class=FileResponse, responses={200: {"content": {"text/plain": {}}}})
def get_logs(job_id: Id, service: TheService, caller: Reader) -> FileResponse:
    """The job's log so far. Ranges are answered, so that one can go on where one was."""
    with service.database.reading() as session:
        job = jobs.find_job(session, caller, job_id)
    path = shown_directory(service, job) / LOG
    if not path.is_file():
        raise NotFoundError("the job has no log yet", hint="wait until it is running")
    return FileResponse(path, media_type="text/plain; charset=utf-8", headers=INERT)


@router.get("/artifacts")
def list_artifacts(job_id: Id, service: TheService, caller: Reader) -> Page[ArtifactInfo]:
    """Files of the delivered bundle; of a job that was stopped, what is best so far."""
    found = _delivered(service, caller, job_id)
    return Page(
        items=tuple(
            ArtifactInfo(name=name, size_bytes=item.size_bytes, sha256=item.sha256)
            for name, item in sorted(found.items())
        )
    )


@router.get(
    "/artifacts/{name:path}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_artifact(
    job_id: Id,
    name: str,
    service: TheService,
    caller: LinkedReader,
    range_: RangeHeader = None,
    if_range: IfRange = None,
    show: Annotated[bool, Query(description="Show a page, not save it.")] = False,
) -> Response:
    """One delivered file. Ranges are answered; `ETag` and `Repr-Digest` are its SHA-256."""
    found = _delivered(service, caller, job_id).get(name)
    if found is None:
        raise NotFoundError(
            f"the job delivered no file {name!r}", hint=f"GET /v1/jobs/{job_id}/artifacts lists all"
        )
    shown = show and name.endswith(".html")
    kind = "text/html" if shown else "application/octet-stream"
    return file_answer(found, name, range_, if_range, kind, shown=shown)


@router.get(
    "/bundle",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}}},
)
def get_bundle(
    job_id: Id,
    service: TheService,
    caller: LinkedReader,
    range_: RangeHeader = None,
    if_range: IfRange = None,
) -> Response:
    """Everything that was delivered as one zip file, with ranges and digests as for a file."""
    found = _delivered(service, caller, job_id)
    if not found:
        raise NotFoundError("the job delivered nothing", hint="wait until it has ended")
    packed = archive(service, job_id, found)
    return file_answer(packed, f"{job_id}.zip", range_, if_range, "application/zip")


def _delivered(service: Service, caller: Reader, job_id: str) -> dict[str, Deliverable]:
    with service.database.reading() as session:
        jobs.find_job(session, caller, job_id)
    return deliverables(service, job_id)


async def _events(service: Service, job_id: str, last: int) -> AsyncIterator[str]:
    told = time.monotonic()
    async with service.hub.following(job_id) as news:
        while True:
            found = await service.hub.behind(job_id, last)
            last = found.last
            if found.texts:
                told = time.monotonic()
                yield "".join(found.texts)
            if found.is_over:
                return
            if found.texts:
                continue  # there may be more than are read at once
            if time.monotonic() - told > _KEEP_ALIVE_SECONDS:
                told = time.monotonic()
                yield ": still there\n\n"
            await service.hub.wait(news)
