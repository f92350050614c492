"""`/v1/atlases`: have the layer shapes of a model measured again."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.job_kinds import ATLAS
from api.kind_requests import AtlasRequest
from api.routes.jobs import IdempotencyKey, accepted
from api.service import Submitter, TheService
from autosparse.client.records import JobInfo

router = APIRouter(prefix="/v1/atlases", tags=["jobs"])


@router.post("", status_code=202)
async def refresh_atlas(
    asked: AtlasRequest,
    response: Response,
    service: TheService,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> JobInfo:
    """Measure every level of a model's layer shapes, as a new job that delivers an atlas."""
    return await service.inspector.run_apart(
        accepted, service, caller, ATLAS, asked.root, idempotency_key, response
    )
