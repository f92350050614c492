"""`/v1/devices`: where jobs run, and devices that offer themselves."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request

from api import joined_devices
from api.service import Reader, Submitter, TheService
from autosparse.client.device_records import DEVICE_NAME, DeviceInfo, DeviceOffer, DeviceRenewal
from autosparse.client.records import Page

router = APIRouter(prefix="/v1/devices", tags=["targets"])
Name = Annotated[str, Path(pattern=DEVICE_NAME, max_length=63)]


@router.get("")
def list_devices(service: TheService, caller: Reader) -> Page[DeviceInfo]:
    """The devices that your jobs may name, and whether a job runs there, whosever it is."""
    with service.database.reading() as session:
        return Page(items=joined_devices.devices_there(session, caller))


@router.post("", status_code=201)
async def offer_device(
    asked: DeviceOffer, request: Request, service: TheService, caller: Submitter
) -> DeviceInfo:
    """Offer a device whose agent listens; the service connects to it before it answers."""
    peer = "" if request.client is None else request.client.host
    offer = partial(joined_devices.offer_device, service, caller, asked, peer)
    # who does not answer keeps these threads waiting, and no others
    return await asyncio.get_running_loop().run_in_executor(service.reaching, offer)


@router.post("/{device_name}:renew", status_code=204)
def renew_device(
    device_name: Name, asked: DeviceRenewal, service: TheService, caller: Submitter
) -> None:
    """Say that a device is still there, as its agent does every few seconds."""
    joined_devices.renew_device(service, caller, device_name, asked.key)


@router.delete("/{device_name}", status_code=204)
def withdraw_device(device_name: Name, service: TheService, caller: Submitter) -> None:
    """Withdraw a device; jobs that name it wait until it is offered again."""
    joined_devices.withdraw_device(service, caller, device_name)
