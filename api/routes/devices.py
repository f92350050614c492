"""`/v1/devices`: where jobs run."""

from __future__ import annotations

import time

from fastapi import APIRouter
from sqlalchemy import select

from api.service import Reader, TheService
from api.tables import LaneRow
from autosparse.client.records import DeviceInfo, Page

router = APIRouter(prefix="/v1/devices", tags=["targets"])


@router.get("")
def list_devices(service: TheService, caller: Reader) -> Page[DeviceInfo]:
    """The devices that runners ever had, and whether a job runs there, whosever it is."""
    with service.database.reading() as session:
        lanes = session.scalars(select(LaneRow).order_by(LaneRow.device))
        now = time.time()
        return Page(items=tuple(DeviceInfo(name=one.device, busy=one.until > now) for one in lanes))
