"""The target of a job that measures on a device that joined: its own, at that device's address.

The address tells the device's name. Where it is, the runner knows (`device_lines.py`); what is
delivered does not tell it, and a device that comes back at another address is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from sqlalchemy.orm import Session

from api.job_request import OF_A_TARGET, TARGET_FIELD, device_of
from api.joined_devices import joined_device
from api.keys import Caller
from api.service import Service
from api.tables import JobRow
from api.uploads import find_target
from autosparse.errors import ConfigError
from autosparse.evaluation import Environment, Target
from autosparse.evaluation.address import AGENT_SCHEME, AgentAddress
from autosparse.evaluation.target import ANY_BACKEND

_PORT = 9190  # where an agent listens unless it is told otherwise; an address needs one
_DECIDED = {name: "input_shapes" if name == "input_shape" else name for name in OF_A_TARGET}


@dataclass(frozen=True)
class Aim:
    """What a job's configuration is given in place of its target."""

    fields: Mapping[str, Any]
    """Fields of the configuration."""
    there: dict[str, Any] | None
    """What the agent said of the device; None where the job measures on a runner's."""


def aim_of(
    service: Service, caller: Caller, fields: Mapping[str, JsonValue], laid: Mapping[str, str]
) -> Aim:
    """Where a job measures, and at what threads and shapes.

    A target that was uploaded is told as fields: with an address it would be another one.

    Args:
        service: where the device has joined.
        caller: whose job it is.
        fields: what was asked.
        laid: field -> path, as the uploads were laid out.

    Raises:
        ConfigError: a field says something else than the target, or the target is for another
            architecture than the device's.
    """
    device = device_of(fields)
    with service.database.reading() as session:
        row = None if device is None else joined_device(session, caller.id, device)
        if row is None:
            return Aim(laid, None)
        target = _target(session, caller, fields.get(TARGET_FIELD))
    paths = {name: path for name, path in laid.items() if name != TARGET_FIELD}
    address = address_of(row.name)
    told: dict[str, Any] = {}
    if target is not None:
        there = Environment.model_validate(row.environment)
        told = _as_fields(target.model_copy(update={"address": address}).on(there), fields)
    return Aim({**paths, **told, TARGET_FIELD: address}, row.environment)


def aim_again(
    service: Service, caller: Caller, fields: Mapping[str, JsonValue], source: JobRow
) -> Aim | None:
    """Where a job that is about another one measures, if one of the two is on a device that joined.

    Args:
        service: where the device has joined.
        caller: whose job it is.
        fields: what was asked.
        source: the job that it is about.

    Raises:
        ConfigError: the other job ran on a device that joined, and this one is to run elsewhere.
    """
    before = source.ran_on
    device = device_of(fields) or before
    with service.database.reading() as session:
        rows = {
            name: joined_device(session, caller.id, name)
            for name in (before, device)
            if name is not None
        }
    if before != device and before is not None and rows[before] is not None:
        raise ConfigError(
            f"device: the job ran on {before}, which its agent offers: what is about it stays there"
        )
    row = None if device is None else rows[device]
    return None if row is None else Aim({TARGET_FIELD: address_of(row.name)}, row.environment)


def address_of(device: str) -> str:
    """How a target names a device that joined."""
    return f"{AGENT_SCHEME}{AgentAddress(device, _PORT)}"


def _target(session: Session, caller: Caller, id_: JsonValue) -> Target | None:
    """The target that was uploaded, if one was."""
    if not isinstance(id_, str):
        return None
    return Target.model_validate(find_target(session, caller, id_).document)


def _as_fields(target: Target, fields: Mapping[str, JsonValue]) -> dict[str, Any]:
    """What a target decides, as the fields of a configuration."""
    told: dict[str, Any] = {}
    for name, of_target in _DECIDED.items():
        asked, fixed = fields.get(name), getattr(target, of_target)
        if asked is None and fixed:
            told[name] = fixed
        elif asked != fixed and fixed not in ({}, ANY_BACKEND):
            raise ConfigError(
                f"{name}: {asked} contradicts the target, which says {fixed}",
                hint="leave the field away, or take another target",
            )
    return told
