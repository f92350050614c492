"""What every route shares: the settings, the database, the files, and who looks into uploads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from fastapi import Depends, Path, Request

from api.arriving import Arriving
from api.artifact_store import ArtifactStore
from api.database import ID_PATTERN, Database
from api.event_hub import EventHub
from api.file_store import FileStore
from api.fronts import Fronts
from api.inspection import Inspector
from api.keys import OPEN_KEY, SCOPES, Caller, authenticate
from api.recent_texts import RecentTexts
from api.settings import ServerSettings
from api.signed_links import caller_of_link
from api.snapshot_store import SnapshotStore
from autosparse.errors import ForbiddenError


@dataclass(frozen=True)
class Service:
    """One server's parts."""

    settings: ServerSettings
    database: Database
    files: FileStore
    inspector: Inspector
    hub: EventHub
    artifacts: ArtifactStore | None = None
    """Where delivered files are kept; None for the jobs' own directories."""
    snapshots: SnapshotStore | None = None
    """Where jobs' files are kept; None where all servers share one home."""
    arriving: Arriving = field(default_factory=Arriving)
    """Uploads that are on their way."""
    reaching: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 2, "devices"))
    """Threads that connect to devices, apart from those that all requests share."""
    fronts: Fronts = field(default_factory=Fronts)
    """What is known of the trials of the jobs that are looked at."""
    texts: RecentTexts = field(default_factory=RecentTexts)
    """What was made to show them."""


async def service_of(request: Request) -> Service:
    """The service that the application was made with; as a coroutine it costs no thread."""
    return _service(request)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Whose key the request carries.

    Raises:
        UnauthenticatedError: it carries no valid one.
    """
    service = _service(request)
    if not service.settings.keys:
        return Caller(OPEN_KEY, frozenset(SCOPES))
    caller = authenticate(service.database, request.headers.get("authorization"))
    request.state.caller = caller.id
    return caller


def _needs(scope: str, caller: Caller) -> Caller:
    if scope not in caller.scopes:
        raise ForbiddenError(
            f"the key does not have the scope {scope!r}", hint="use a key that has it"
        )
    return caller


def _reader(request: Request) -> Caller:
    return _needs("read", caller_of(request))


def _linked_reader(request: Request) -> Caller:
    service = _service(request)
    linked = caller_of_link(service.database, request) if service.settings.keys else None
    if linked is None:
        return _reader(request)
    request.state.caller = linked.id
    return _needs("read", linked)


def _submitter(request: Request) -> Caller:
    return _needs("submit", caller_of(request))


def _admin(request: Request) -> Caller:
    return _needs("admin", caller_of(request))


TheService = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Depends(_reader)]
LinkedReader = Annotated[Caller, Depends(_linked_reader)]
Submitter = Annotated[Caller, Depends(_submitter)]
Admin = Annotated[Caller, Depends(_admin)]
Anybody = Annotated[Caller, Depends(caller_of)]
"""Whoever has a valid key, whatever its scopes."""
Id = Annotated[str, Path(max_length=40, pattern=ID_PATTERN)]
