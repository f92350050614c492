"""Devices that offer themselves: who may, from where, and whose jobs may go there."""

from __future__ import annotations

import hmac
import ipaddress
import logging

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.database import clock_of
from api.device_lanes import may_name
from api.device_lines import agent_at, device_address
from api.json_logs import about
from api.keys import Caller
from api.service import Service
from api.tables import DeviceRow, LaneRow
from autosparse.client.device_records import PRESENCE_SECONDS, DeviceInfo, DeviceOffer
from autosparse.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, QuotaError
from autosparse.evaluation import Environment

_MOST_DEVICES = 100
_WITHDRAWN = 0.0
_audit = logging.getLogger("autosparse.audit")


def offer_device(service: Service, caller: Caller, asked: DeviceOffer, peer: str) -> DeviceInfo:
    """Let jobs measure on a device whose agent answers.

    Args:
        service: what it is offered to.
        caller: whose it is from now on.
        asked: the device.
        peer: address that the request came from.

    Raises:
        ForbiddenError: the key may not share devices, or the address is not the caller's to name.
        ConflictError: another device has the name.
        QuotaError: the key has too many.
        ConfigError: no agent answers there with that key.
    """
    is_admin = "admin" in caller.scopes
    if asked.shared and not is_admin:
        raise ForbiddenError(
            "a device that is shared is sent everybody's models",
            hint="use a key with the scope admin, or offer it to your own jobs only",
        )
    address = device_address(asked.address, service.settings.device_networks)
    if not (is_admin or _are_same(address.host, peer)):
        raise ForbiddenError(
            f"the request comes from {peer}, and {address.host} is another machine",
            hint="start the agent on the device itself, or use a key with the scope admin",
        )
    with service.database.reading() as session:
        _check_free(session, caller, asked.name)
    environment = agent_at(address, asked.key)
    with service.database.writing() as session:
        now = clock_of(session)
        row = DeviceRow(
            name=asked.name, owner=caller.id, shared=asked.shared, address=str(address),
            secret=asked.key, environment=environment.model_dump(mode="json"), joined=now,
            until=now + PRESENCE_SECONDS,
        )  # fmt: skip
        service.database.hold(session, f"lane {asked.name}")
        _check_free(session, caller, asked.name)  # meanwhile
        lane = session.get(LaneRow, asked.name)
        if lane is None:
            session.add(LaneRow(device=asked.name, runner=None, until=0.0, note=""))
        session.merge(row)
        told = _described(row, busy=lane is not None and lane.until > now)
    _audit.info("device", extra=about(name=asked.name, done="joined", by=caller.id))
    return told


def renew_device(service: Service, caller: Caller, name: str, key: str) -> None:
    """Note that a device is still there.

    Raises:
        NotFoundError: the caller offers no such device: it has to be offered anew.
        ConflictError: another agent has the name by now.
    """
    with service.database.writing() as session:
        row = _own(session, caller, name)
        if not hmac.compare_digest(row.secret.encode(), key.encode()):
            raise ConflictError(
                f"another agent has joined as {name}", hint="give each device a --name of its own"
            )
        row.until = clock_of(session) + PRESENCE_SECONDS


def withdraw_device(service: Service, caller: Caller, name: str) -> None:
    """Note that a device is gone; jobs that wait for it wait until it is back.

    Raises:
        NotFoundError: the caller offers no such device.
    """
    with service.database.writing() as session:
        _own(session, caller, name).until = _WITHDRAWN
    _audit.info("device", extra=about(name=name, done="withdrawn", by=caller.id))


def devices_there(session: Session, caller: Caller) -> tuple[DeviceInfo, ...]:
    """The devices that the caller's jobs may name, and whether a job runs there, whosever it is.

    Those of runners that were ever there, and those that joined and are there now.
    """
    now = clock_of(session)
    joined = {row.name: row for row in session.scalars(select(DeviceRow))}
    found = []
    for lane in session.scalars(select(LaneRow).order_by(LaneRow.device)):
        row, busy = joined.get(lane.device), lane.until > now
        if row is None:
            found.append(DeviceInfo(name=lane.device, busy=busy))
        elif row.until > now and (row.shared or row.owner == caller.id):
            found.append(_described(row, busy))
    return tuple(found)


def joined_device(session: Session, owner: str, name: str) -> DeviceRow | None:
    """A device that joined, there or away, and that jobs of a key may name; None for any other."""
    return session.scalar(select(DeviceRow).where(DeviceRow.name == name, may_name(owner)))


def check_device(session: Session, caller: Caller, name: str) -> None:
    """Refuse a device that never was one for the caller: a job would wait for ever.

    Raises:
        ConfigError: there is none of that name.
    """
    has_joined = select(DeviceRow.name)
    of_runners = select(LaneRow.device).where(LaneRow.device.not_in(has_joined))
    mine = has_joined.where(may_name(caller.id))
    known = {*session.scalars(of_runners), *session.scalars(mine)}
    if name not in known:
        raise ConfigError(
            f"device: there is none called {name!r}", hint=f"known: {', '.join(sorted(known))}"
        )


def _own(session: Session, caller: Caller, name: str) -> DeviceRow:
    row = session.get(DeviceRow, name, with_for_update=True)
    if row is None or row.owner != caller.id or row.until == _WITHDRAWN:
        raise NotFoundError(
            f"you offer no device {name}", hint="list those that there are: GET /v1/devices"
        )
    return row


def _check_free(session: Session, caller: Caller, name: str) -> None:
    """Refuse a name that a runner's device has, or another key's that is there or measures."""
    row, lane, now = session.get(DeviceRow, name), session.get(LaneRow, name), clock_of(session)
    is_in_use = lane is not None and (row is None or lane.until > now or row.until > now)
    if is_in_use and (row is None or row.owner != caller.id):
        raise ConflictError(f"there is a device called {name}", hint="give it another --name")
    mine = select(func.count()).select_from(DeviceRow).where(DeviceRow.owner == caller.id)
    if row is None and (session.scalar(mine) or 0) >= _MOST_DEVICES:
        raise QuotaError(f"the key has offered {_MOST_DEVICES} devices", hint="use their names")


def _are_same(host: str, peer: str) -> bool:
    try:
        return _plain(host) == _plain(peer)
    except ValueError:
        return False


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _described(row: DeviceRow, busy: bool) -> DeviceInfo:
    there = Environment.model_validate(row.environment)
    return DeviceInfo(
        name=row.name, busy=busy, joined=True, shared=row.shared, cpu=there.cpu,
        machine=there.machine, cores=there.cores, instruction_sets=there.instruction_sets,
        libraries=there.libraries, environment=there.id,
    )  # fmt: skip
