"""`/v1/schedules`: make, list, change, pause, run now, look back, delete."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api import schedules
from api.paging import After, Limit, page_of
from api.schedules import ScheduleChanges, ScheduleRequest
from api.service import Id, Reader, Submitter, TheService
from api.tables import RunRow, ScheduleRow
from autosparse.client.records import Page
from autosparse.client.schedule_records import RunInfo, ScheduleInfo

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])


@router.post("", status_code=201)
async def make_schedule(
    asked: ScheduleRequest, response: Response, service: TheService, caller: Submitter
) -> ScheduleInfo:
    """Make a schedule. What its jobs are asked is checked as if one were submitted now."""
    made = await service.inspector.run_apart(schedules.make_schedule, service, caller, asked)
    response.headers["Location"] = f"/v1/schedules/{made.id}"
    return made


@router.get("")
def list_schedules(
    service: TheService, caller: Reader, limit: Limit = 50, after: After = None
) -> Page[ScheduleInfo]:
    """Your schedules, newest first."""
    with service.database.reading() as session:
        mine = ScheduleRow.owner == caller.id
        rows, following = page_of(session, ScheduleRow, mine, limit, after)
    return Page(items=tuple(map(schedules.describe_schedule, rows)), next=following)


# before /{schedule_id}: a path with a verb is no id
@router.post("/{schedule_id}:pause")
def pause_schedule(schedule_id: Id, service: TheService, caller: Submitter) -> ScheduleInfo:
    """Begin no further run; one that was begun goes on."""
    return schedules.pause_schedule(service, caller, schedule_id, paused=True)


@router.post("/{schedule_id}:resume")
def resume_schedule(schedule_id: Id, service: TheService, caller: Submitter) -> ScheduleInfo:
    """Go on from now. What was due meanwhile was not missed."""
    return schedules.pause_schedule(service, caller, schedule_id, paused=False)


@router.post("/{schedule_id}:run", status_code=202)
def run_schedule(schedule_id: Id, service: TheService, caller: Submitter) -> RunInfo:
    """Let it run once now, also while it is paused."""
    return schedules.run_now(service, caller, schedule_id)


@router.get("/{schedule_id}")
def get_schedule(schedule_id: Id, service: TheService, caller: Reader) -> ScheduleInfo:
    """One schedule."""
    with service.database.reading() as session:
        return schedules.describe_schedule(schedules.find_schedule(session, caller, schedule_id))


@router.patch("/{schedule_id}")
def change_schedule(
    schedule_id: Id, changes: ScheduleChanges, service: TheService, caller: Submitter
) -> ScheduleInfo:
    """Change when it is due, its name or its policies."""
    return schedules.change_schedule(service, caller, schedule_id, changes)


@router.delete("/{schedule_id}", status_code=204)
def delete_schedule(schedule_id: Id, service: TheService, caller: Submitter) -> None:
    """Remove a schedule with its history. Jobs that it began stay."""
    schedules.delete_schedule(service, caller, schedule_id)


@router.get("/{schedule_id}/runs")
def list_runs(
    schedule_id: Id,
    service: TheService,
    caller: Reader,
    limit: Limit = 50,
    after: After = None,
) -> Page[RunInfo]:
    """Its runs, newest first, each with what is different from the one before."""
    with service.database.reading() as session:
        schedule = schedules.find_schedule(session, caller, schedule_id)
        mine = RunRow.schedule == schedule.id
        rows, following = page_of(session, RunRow, mine, limit, after)
        return Page(items=schedules.describe_runs(session, rows), next=following)
