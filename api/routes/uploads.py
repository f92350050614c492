"""`/v1/models`, `/v1/datasets` and `/v1/targets`."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api import uploads
from api.file_store import Received, too_large
from api.paging import After, Limit, page_of
from api.service import Id, Reader, Service, Submitter, TheService
from api.tables import TargetRow, UploadRow
from api.target_request import TargetRequest
from autosparse.client.records import DatasetInfo, ModelInfo, Page, TargetInfo
from autosparse.errors import RequestError

router = APIRouter(prefix="/v1")
Upload = ModelInfo | DatasetInfo
Name = Annotated[str, Query(description="For people; never part of a path.")]
BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""For the API's document: the body is a file."""


def _routes(kind: uploads.UploadKind, file: str) -> APIRouter:
    """What can be done with models, and likewise with datasets.

    Args:
        kind: which of the two.
        file: what the body of an upload is, in words.
    """
    plural = f"{kind.name}s"
    routes = APIRouter(prefix=f"/{plural}", tags=[plural])

    @routes.post(
        "", status_code=201, openapi_extra=BYTES, response_model=kind.record,
        summary=f"Upload a {kind.name}", description=f"Upload {file} as the body of the request.",
    )  # fmt: skip
    async def upload(
        request: Request,
        response: Response,
        service: TheService,
        caller: Submitter,
        name: Name = "",
    ) -> Upload:
        uploads.check_name(name)
        received = await _receive(request, service, caller.id, kind.most_bytes(service.settings))
        made = await service.inspector.run_apart(
            uploads.store_upload, service, caller, kind, name, received
        )
        response.headers["Location"] = f"/v1/{plural}/{made.id}"
        return made

    @routes.get(
        "", response_model=Page[kind.record],  # type: ignore[name-defined]
        summary=f"List {plural}", description=f"Your {plural}, newest first.",
    )  # fmt: skip
    def list_uploads(
        service: TheService, caller: Reader, limit: Limit = 50, after: After = None
    ) -> Page[Upload]:
        mine = (UploadRow.owner == caller.id) & (UploadRow.kind == kind.name)
        with service.database.reading() as session:
            rows, following = page_of(session, UploadRow, mine, limit, after)
            return Page(items=uploads.describe_uploads(session, rows), next=following)

    @routes.get(
        "/{upload_id}", response_model=kind.record,
        summary=f"Get a {kind.name}", description=f"One {kind.name}.",
    )  # fmt: skip
    def get_upload(upload_id: Id, service: TheService, caller: Reader) -> Upload:
        with service.database.reading() as session:
            row = uploads.find_upload(session, caller, kind, upload_id)
            return uploads.describe_uploads(session, [row])[0]

    @routes.delete(
        "/{upload_id}", status_code=204,
        summary=f"Delete a {kind.name}", description=f"Remove a {kind.name} that no job needs.",
    )  # fmt: skip
    def delete_upload(upload_id: Id, service: TheService, caller: Submitter) -> None:
        uploads.delete_upload(service, caller, kind, upload_id)

    return routes


router.include_router(_routes(uploads.MODEL, "an ONNX file, or a zip of one with its data files,"))
router.include_router(_routes(uploads.DATASET, "an npz file of plain arrays"))


@router.post("/targets", status_code=201, tags=["targets"])
def store_target(
    asked: TargetRequest,
    response: Response,
    service: TheService,
    caller: Submitter,
) -> TargetInfo:
    """Store a target: the fields of a target file."""
    made = uploads.store_target(service, caller, asked.root)
    response.headers["Location"] = f"/v1/targets/{made.id}"
    return made


@router.get("/targets", tags=["targets"])
def list_targets(
    service: TheService, caller: Reader, limit: Limit = 50, after: After = None
) -> Page[TargetInfo]:
    """Your targets, newest first."""
    with service.database.reading() as session:
        mine = TargetRow.owner == caller.id
        rows, following = page_of(session, TargetRow, mine, limit, after)
        return Page(items=uploads.describe_targets(session, rows), next=following)


@router.get("/targets/{target_id}", tags=["targets"])
def get_target(target_id: Id, service: TheService, caller: Reader) -> TargetInfo:
    """One target."""
    with service.database.reading() as session:
        row = uploads.find_target(session, caller, target_id)
        return uploads.describe_targets(session, [row])[0]


@router.delete("/targets/{target_id}", status_code=204, tags=["targets"])
def delete_target(target_id: Id, service: TheService, caller: Submitter) -> None:
    """Remove a target that no job needs."""
    uploads.delete_target(service, caller, target_id)


async def _receive(request: Request, service: Service, owner: str, limit: int) -> Received:
    """The body of the request, on the disk; what is announced as too long is not read at all."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal():
        raise RequestError("the length of the request is no number")
    if int(announced) > limit:
        raise too_large("the upload", limit)
    room = await to_thread.run_sync(uploads.room_for, service, owner, int(announced))
    with service.arriving.counted(owner, room) as arrived:
        received = await service.files.receive(request.stream(), limit, arrived)
    if received.size_bytes == 0:
        received.path.unlink()
        raise RequestError("the request has no body", hint="send the file as the body")
    return received
