"""`/v1/jobs`: submit, list, follow the state, cancel, resume, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import JsonValue
from sqlalchemy import ColumnElement, and_, false, true

from api import jobs
from api.job_kinds import RESOLVE, REVERIFY, SEARCH
from api.job_request import JobRequest, ResumeRequest
from api.keys import Caller
from api.kind_requests import ResolveRequest, ReverifyFields
from api.layer_levels import layers_of
from api.paging import After, AfterNumber, Limit, page_of
from api.service import Id, Reader, Service, Submitter, TheService
from api.submission import accept_job
from api.tables import JobRow
from api.trials import page_of_trials
from autosparse.client.layer_records import LayerInfo
from autosparse.client.records import JobInfo, JobKind, Page, TrialInfo

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
IdempotencyKey = Annotated[
    str | None,
    Header(max_length=200, description="The same key leads to the same job, however often sent."),
]
VerdictName = Literal["met", "latency-infeasible", "not-found-within-limits", "simulated"]
State = Literal["queued", "running", "finished", "failed", "cancelled"]


@router.post("", status_code=202)
async def submit_job(
    asked: JobRequest,
    response: Response,
    service: TheService,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> JobInfo:
    """Submit a job. It is checked against the model and the data before it is accepted."""
    return await service.inspector.run_apart(
        accepted, service, caller, SEARCH, asked.root, idempotency_key, response
    )


def _chosen(
    state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    verdict: Annotated[VerdictName | None, Query(description="Only jobs that ended so.")] = None,
    name: Annotated[
        str | None, Query(max_length=200, description="Only jobs whose name has this in it.")
    ] = None,
) -> ColumnElement[bool]:
    """Which jobs of a list are meant."""
    pairs = ((JobRow.state, state), (JobRow.kind, kind), (JobRow.verdict, verdict))
    conditions = [column == value for column, value in pairs if value is not None]
    if name is not None:
        # no name has anything else in it, and not every database takes it
        found = JobRow.name.contains(name, autoescape=True) if name.isprintable() else false()
        conditions.append(found)
    return and_(true(), *conditions)


@router.get("")
def list_jobs(
    service: TheService,
    caller: Reader,
    chosen: Annotated[ColumnElement[bool], Depends(_chosen)],
    limit: Limit = 50,
    after: After = None,
) -> Page[JobInfo]:
    """Your jobs, newest first, without their manifests."""
    with service.database.reading() as session:
        mine = (JobRow.owner == caller.id) & chosen
        rows, following = page_of(session, JobRow, mine, limit, after, jobs.UNLISTED)
        return Page(items=jobs.describe_jobs(session, rows), next=following)


# before /{job_id}: a path with a verb is no id
@router.post("/{job_id}:cancel")
def cancel_job(job_id: Id, service: TheService, caller: Submitter) -> JobInfo:
    """Stop a job within seconds. What it found so far stays, and it can be resumed."""
    return jobs.cancel_job(service, caller, job_id)


@router.post("/{job_id}:resume", status_code=202)
def resume_job(
    job_id: Id, service: TheService, caller: Submitter, asked: ResumeRequest | None = None
) -> JobInfo:
    """Let an ended job go on where it was, perhaps with another budget or other limits."""
    return jobs.resume_job(service, caller, job_id, {} if asked is None else asked.root)


@router.post("/{job_id}:resolve", status_code=202)
async def resolve_job(
    job_id: Id,
    asked: ResolveRequest,
    response: Response,
    service: TheService,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> JobInfo:
    """Answer another budget from what a finished job measured, as a new job, checked like one."""
    fields = {**asked.root, "job": job_id}
    return await service.inspector.run_apart(
        accepted, service, caller, RESOLVE, fields, idempotency_key, response
    )


@router.post("/{job_id}:reverify", status_code=202)
def reverify_job(
    job_id: Id,
    response: Response,
    service: TheService,
    caller: Submitter,
    asked: ReverifyFields | None = None,
    idempotency_key: IdempotencyKey = None,
) -> JobInfo:
    """Measure and evaluate a delivered bundle again, as a new job."""
    given = {} if asked is None else asked.model_dump(mode="json", exclude_unset=True)
    fields = {**given, "job": job_id}
    return accepted(service, caller, REVERIFY, fields, idempotency_key, response)


@router.get("/{job_id}")
def get_job(job_id: Id, service: TheService, caller: Reader) -> JobInfo:
    """One job."""
    with service.database.reading() as session:
        return jobs.describe_job(session, jobs.find_job(session, caller, job_id))


@router.patch("/{job_id}")
def change_job(
    job_id: Id, changes: jobs.JobChanges, service: TheService, caller: Submitter
) -> JobInfo:
    """Change a job's name or priority, or whether it stays however long ago it ended."""
    return jobs.change_job(service, caller, job_id, changes)


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: Id, service: TheService, caller: Submitter) -> None:
    """Remove an ended job and everything that it delivered."""
    jobs.delete_job(service, caller, job_id)


@router.get("/{job_id}/trials")
def list_trials(
    job_id: Id, service: TheService, caller: Reader, limit: Limit = 50, after: AfterNumber = 0
) -> Page[TrialInfo]:
    """The recipes that were evaluated and measured, the first one first."""
    with service.database.reading() as session:
        job = jobs.find_job(session, caller, job_id)
        trials, following = page_of_trials(session, job, limit, after)
    return Page(items=tuple(trials), next=following)


@router.get("/{job_id}/pareto")
def list_front(job_id: Id, service: TheService, caller: Reader) -> Page[TrialInfo]:
    """The trials that none beats in drop, latency, size or memory without losing, fastest first."""
    with service.database.reading() as session:
        job = jobs.find_job(session, caller, job_id)
        return Page(items=tuple(service.fronts.front(session, job)))


@router.get("/{job_id}/layers", response_model=Page[LayerInfo])
def list_layers(job_id: Id, service: TheService, caller: Reader) -> Response:
    """What every level is worth to every layer, as far as it was measured."""
    with service.database.reading() as session:
        job = jobs.find_job(session, caller, job_id)
        return Response(layers_of(service, session, job), media_type="application/json")


def accepted(
    service: Service,
    caller: Caller,
    kind: str,
    fields: Mapping[str, JsonValue],
    key: str | None,
    response: Response,
) -> JobInfo:
    """Accept a job of any kind: its answer, with where it is and whether it was there before."""
    row, is_new = accept_job(service, caller, kind, fields, key)
    response.headers["Location"] = f"/v1/jobs/{row.id}"
    if not is_new:
        response.headers["Idempotency-Replayed"] = "true"
    with service.database.reading() as session:
        return jobs.describe_job(session, row)
