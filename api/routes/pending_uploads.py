"""`/v1/uploads`: a model or dataset in pieces, where one connection may not last."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from api import pending_uploads
from api.paging import After, Limit
from api.pending_uploads import PendingRequest
from api.routes.uploads import BYTES, Upload
from api.service import Id, Reader, Submitter, TheService
from autosparse.client.records import Page, UploadProgress

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
# an empty piece adds nothing, and is no error
_PIECE = {"requestBody": {**BYTES["requestBody"], "required": False}}


@router.post("", status_code=201)
def begin_upload(
    asked: PendingRequest, response: Response, service: TheService, caller: Submitter
) -> UploadProgress:
    """Announce a file that is sent in pieces. It is forgotten when nothing comes for a day."""
    made = pending_uploads.begin(service, caller, asked)
    response.headers["Location"] = f"/v1/uploads/{made.id}"
    return made


@router.get("")
def list_uploads(
    service: TheService, caller: Reader, limit: Limit = 50, after: After = None
) -> Page[UploadProgress]:
    """Your uploads in pieces that have not been finished, newest first."""
    return pending_uploads.arriving(service, caller, limit, after)


# before /{pending_id}: a path with a verb is no id
@router.post("/{pending_id}:finish", status_code=201)
async def finish_upload(
    pending_id: Id, response: Response, service: TheService, caller: Submitter
) -> Upload:
    """Look into a file that has arrived, and keep it as a model or a dataset."""
    made = await service.inspector.run_apart(pending_uploads.finish, service, caller, pending_id)
    response.headers["Location"] = (
        f"/v1/{'models' if made.id[:3] == 'mdl' else 'datasets'}/{made.id}"
    )
    return made


@router.get("/{pending_id}")
def get_upload(pending_id: Id, service: TheService, caller: Reader) -> UploadProgress:
    """How much has arrived: the next piece goes on there."""
    return pending_uploads.progress(service, caller, pending_id)


@router.patch("/{pending_id}", openapi_extra=_PIECE)
async def continue_upload(
    pending_id: Id,
    request: Request,
    service: TheService,
    caller: Submitter,
    upload_offset: Annotated[int, Header(ge=0, description="Bytes that have arrived before.")] = 0,
) -> UploadProgress:
    """Send a piece as the body. Of one that breaks off, what arrived is kept."""
    return await pending_uploads.receive(
        service, caller, pending_id, upload_offset, request.stream()
    )


@router.delete("/{pending_id}", status_code=204)
def give_upload_up(pending_id: Id, service: TheService, caller: Submitter) -> None:
    """Forget what has arrived."""
    pending_uploads.give_up(service, caller, pending_id)
