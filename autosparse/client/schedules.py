"""`Client.schedules`: what a service does again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from autosparse.client.http import Transport
from autosparse.client.records import Page
from autosparse.client.schedule_records import RunInfo, ScheduleInfo
from autosparse.errors import ConfigError


class Schedules:
    """The schedules of one key.

    Args:
        transport: the service.
        uploaded: puts ids in the place of a request's files.
    """

    def __init__(
        self, transport: Transport, uploaded: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> None:
        self._transport = transport
        self._uploaded = uploaded

    def make(
        self, /, kind: str, cron: str, request: Mapping[str, Any], **fields: Any
    ) -> ScheduleInfo:
        """Make a schedule; files that its request names are uploaded.

        Args:
            kind: `search`, `reverify` or `refresh_atlas`.
            cron: minute, hour, day of month, month, day of week.
            request: what every run's job is asked: the fields of `Client.submit`; `job` and
                perhaps `tolerance`; or `model` and perhaps `target`, `calibration`, `levels`.
            **fields: `time_zone`, `name`, `missed` (skip, once, all), `overlap` (skip, queue,
                replace), `paused`.

        Raises:
            UserInputError: the service does not accept it; the message says what to do.
        """
        document = {"kind": kind, "cron": cron, "request": self._uploaded(request), **fields}
        return ScheduleInfo.model_validate(
            self._transport.json("POST", "/v1/schedules", json=document)
        )

    def get(self, id_: str) -> ScheduleInfo:
        """One schedule."""
        return ScheduleInfo.model_validate(self._transport.json("GET", _path(id_)))

    def list(self) -> Iterator[ScheduleInfo]:
        """Every schedule of this key, newest first."""
        for answer in self._transport.pages("/v1/schedules"):
            yield from Page[ScheduleInfo].model_validate(answer).items

    def change(self, /, id_: str, **changes: Any) -> ScheduleInfo:
        """Change `cron`, `time_zone`, `name`, `missed` or `overlap`."""
        return ScheduleInfo.model_validate(self._transport.json("PATCH", _path(id_), json=changes))

    def pause(self, id_: str) -> ScheduleInfo:
        """Begin no further run."""
        return ScheduleInfo.model_validate(self._transport.json("POST", f"{_path(id_)}:pause"))

    def resume(self, id_: str) -> ScheduleInfo:
        """Go on from now."""
        return ScheduleInfo.model_validate(self._transport.json("POST", f"{_path(id_)}:resume"))

    def run(self, id_: str) -> RunInfo:
        """Let it run once now."""
        return RunInfo.model_validate(self._transport.json("POST", f"{_path(id_)}:run"))

    def runs(self, id_: str) -> Iterator[RunInfo]:
        """Its runs, newest first, each with what is different from the one before."""
        for answer in self._transport.pages(f"{_path(id_)}/runs"):
            yield from Page[RunInfo].model_validate(answer).items

    def delete(self, id_: str) -> None:
        """Remove a schedule with its history; jobs that it began stay."""
        self._transport.json("DELETE", _path(id_))


def _path(id_: str) -> str:
    if not id_.startswith("sch_") or not id_.replace("_", "").isalnum():
        raise ConfigError(
            f"{id_!r} is no schedule's id", hint="`autosparse schedule list` prints them"
        )
    return f"/v1/schedules/{id_}"
