"""`/v1/models`, `/v1/datasets` and `/v1/targets`."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Query, Request, Response

from api import uploads
from api.file_store import Received, too_large
from api.paging import After, Limit, page_of
from api.service import Id, Reader, Service, Submitter, TheService
from api.tables import TargetRow, UploadRow
from autosparse.client.records import DatasetInfo, ModelInfo, Page, TargetInfo
from autosparse.errors import RequestError

router = APIRouter(prefix="/v1")
Name = Annotated[str, Query(description="For people; never part of a path.")]
_BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/models", status_code=201, tags=["models"], openapi_extra=_BYTES)
async def upload_model(
    request: Request, response: Response, service: TheService, caller: Submitter, name: Name = ""
) -> ModelInfo:
    """Upload an ONNX file, or a zip of one with its data files, as the body of the request."""
    uploads.check_name(name)
    received = await _receive(request, service, caller.id, service.settings.max_model_bytes)
    made = await to_thread.run_sync(uploads.store_model, service, caller, name, received)
    response.headers["Location"] = f"/v1/models/{made.id}"
    return made


@router.get("/models", tags=["models"])
def list_models(
    service: TheService, caller: Reader, limit: Limit = 50, after: After = None
) -> Page[ModelInfo]:
    """Your models, newest first."""
    mine = (UploadRow.owner == caller.id) & (UploadRow.kind == uploads.MODEL)
    with service.database.reading() as session:
        rows, following = page_of(session, UploadRow, mine, limit, after)
    return Page(items=tuple(map(uploads.describe_model, rows)), next=following)


@router.get("/models/{model_id}", tags=["models"])
def get_model(model_id: Id, service: TheService, caller: Reader) -> ModelInfo:
    """One model."""
    with service.database.reading() as session:
        row = uploads.find_upload(session, caller, uploads.MODEL, model_id)
        return uploads.describe_model(row)


@router.delete("/models/{model_id}", status_code=204, tags=["models"])
def delete_model(model_id: Id, service: TheService, caller: Submitter) -> None:
    """Remove a model that no job needs."""
    uploads.delete_upload(service, caller, uploads.MODEL, model_id)


@router.post("/datasets", status_code=201, tags=["datasets"], openapi_extra=_BYTES)
async def upload_dataset(
    request: Request, response: Response, service: TheService, caller: Submitter, name: Name = ""
) -> DatasetInfo:
    """Upload an npz file of plain arrays as the body of the request."""
    uploads.check_name(name)
    received = await _receive(request, service, caller.id, service.settings.max_dataset_bytes)
    made = await to_thread.run_sync(uploads.store_dataset, service, caller, name, received)
    response.headers["Location"] = f"/v1/datasets/{made.id}"
    return made


@router.get("/datasets", tags=["datasets"])
def list_datasets(
    service: TheService, caller: Reader, limit: Limit = 50, after: After = None
) -> Page[DatasetInfo]:
    """Your datasets, newest first."""
    mine = (UploadRow.owner == caller.id) & (UploadRow.kind == uploads.DATASET)
    with service.database.reading() as session:
        rows, following = page_of(session, UploadRow, mine, limit, after)
    return Page(items=tuple(map(uploads.describe_dataset, rows)), next=following)


@router.get("/datasets/{dataset_id}", tags=["datasets"])
def get_dataset(dataset_id: Id, service: TheService, caller: Reader) -> DatasetInfo:
    """One dataset."""
    with service.database.reading() as session:
        row = uploads.find_upload(session, caller, uploads.DATASET, dataset_id)
        return uploads.describe_dataset(row)


@router.delete("/datasets/{dataset_id}", status_code=204, tags=["datasets"])
def delete_dataset(dataset_id: Id, service: TheService, caller: Submitter) -> None:
    """Remove a dataset that no job needs."""
    uploads.delete_upload(service, caller, uploads.DATASET, dataset_id)


@router.post("/targets", status_code=201, tags=["targets"])
def store_target(
    response: Response,
    service: TheService,
    caller: Submitter,
    document: Annotated[
        dict[str, Any],
        Body(examples=[{"name": "edge-box", "backend": "onnxruntime", "threads": 2}]),
    ],
) -> TargetInfo:
    """Store a target: the fields of a target file."""
    made = uploads.store_target(service, caller, document)
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
    return Page(items=tuple(map(uploads.describe_target, rows)), next=following)


@router.get("/targets/{target_id}", tags=["targets"])
def get_target(target_id: Id, service: TheService, caller: Reader) -> TargetInfo:
    """One target."""
    with service.database.reading() as session:
        return uploads.describe_target(uploads.find_target(session, caller, target_id))


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
    await to_thread.run_sync(uploads.check_room, service, owner, int(announced))
    received = await service.files.receive(request.stream(), limit)
    if received.size_bytes == 0:
        received.path.unlink()
        raise RequestError("the request has no body", hint="send the file as the body")
    return received
