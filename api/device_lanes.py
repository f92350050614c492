"""Lanes of devices that joined: when a runner may take one beside that of its own device.

A job computes where its runner is and measures where its device is. So it has both lanes: what it
computes would disturb the measurements of another job here, and what it measures those there.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_
from sqlalchemy.orm import Session

from api.tables import DeviceRow, JobRow, LaneRow


def may_name(owner: object) -> ColumnElement[bool]:
    """Whether jobs of a key may go to a device.

    Args:
        owner: the key's id, or the column that has it.
    """
    return or_(DeviceRow.shared, DeviceRow.owner == owner)


def waits_for_one_that_is_free(runner: str, now: float) -> ColumnElement[bool]:
    """Whether a job names a device that joined, is there, and measures for nobody else."""
    return exists().where(
        DeviceRow.name == JobRow.device, DeviceRow.until > now, may_name(JobRow.owner),
        LaneRow.device == DeviceRow.name, (LaneRow.until <= now) | (LaneRow.runner == runner),
    )  # fmt: skip


def free_lane(session: Session, device: str, runner: str, now: float) -> LaneRow | None:
    """A lane that this session may take; None where another runner has it, or there is none."""
    lane = session.get(LaneRow, device, with_for_update=True)
    if lane is None or (lane.until > now and lane.runner != runner):
        return None
    return lane
