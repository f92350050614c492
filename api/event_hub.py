"""Who follows a job is woken when something happens: one look at the database for all of them.

Events are read and written out once, however many follow; only who comes late, or was slow, reads
what lies further back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import to_thread
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.database import Database
from api.tables import EventRow, JobRow, KeyRow
from autosparse.client.records import ENDED, EventInfo

_log = logging.getLogger("autosparse.events")
_LOOK_SECONDS = 0.3
# Events of two jobs may be stored in another order than they are numbered: look anyway, sometimes.
_AT_LEAST_SECONDS = 5.0
_AT_ONCE, _KEPT = 500, 1000


@dataclass(frozen=True)
class Told:
    """Events behind one that is known."""

    texts: tuple[str, ...]
    """As they are sent."""
    last: int
    """Sequence of the last of them."""
    is_over: bool
    """Whether there will be none behind it."""
    secret: bytes | None = None
    """Digest of what the job's key proves itself with; None where nobody may know of it."""


@dataclass
class _Channel:
    """One job's newest events, for all who follow it."""

    start: int | None = None
    """Sequence of the event before the first that is kept; None before the first look."""
    texts: list[str] = field(default_factory=list)
    fresh: bool = False
    """Whether nothing was stored since they were read, as far as is known."""
    is_over: bool = False
    secret: bytes | None = None
    """As it was when the first of them came."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: set[asyncio.Event] = field(default_factory=set)

    def add(self, told: Told, behind: int) -> None:
        """Keep events behind the last one that was kept."""
        self.start = behind if self.start is None else self.start
        self.secret = self.secret or told.secret
        if told.secret is None or told.secret != self.secret:
            # the key was revoked, or has another secret: who follows must show that one
            self.is_over = True
            return
        self.texts += told.texts
        self.is_over = told.is_over
        surplus = len(self.texts) - _KEPT
        if surplus > 0:
            self.start += surplus
            del self.texts[:surplus]

    def behind(self, last: int) -> Told | None:
        """Events behind one; None where it lies before those that are kept, or does not exist."""
        if self.start is None or not self.start <= last <= self.start + len(self.texts):
            return None
        texts = tuple(self.texts[last - self.start :])
        return Told(texts, last + len(texts), self.is_over)

    def wake(self) -> None:
        self.fresh = False
        for news in self.waiting:
            news.set()


class EventHub:
    """Looks for new events of any job while anybody follows one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, _Channel] = {}
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def following(self, job: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever something may have happened to the job."""
        news = asyncio.Event()
        channel = self._channels.setdefault(job, _Channel())
        channel.waiting.add(news)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield news
        finally:
            channel.waiting.discard(news)
            if not channel.waiting:
                del self._channels[job]
            if not self._channels and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def behind(self, job: str, last: int) -> Told:
        """Events of a followed job behind the last one that is known; there may be more yet."""
        channel = self._channels[job]
        async with channel.reading:
            if not channel.fresh:
                await self._refresh(job, channel)
        told = channel.behind(last)
        return await to_thread.run_sync(self._read, job, last) if told is None else told

    @staticmethod
    async def wait(news: asyncio.Event) -> None:
        """Wait for news, though not for long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), 2 * _AT_LEAST_SECONDS)
        news.clear()

    async def _refresh(self, job: str, channel: _Channel) -> None:
        channel.fresh = True  # what is stored while it is read makes it stale again
        try:
            if channel.start is None:
                behind = await to_thread.run_sync(self._newest_of, job)
            else:
                behind = channel.start + len(channel.texts)
            told = await to_thread.run_sync(self._read, job, behind)
        except BaseException:
            channel.fresh = False
            raise
        channel.add(told, behind)
        if len(told.texts) == _AT_ONCE:
            channel.fresh = False

    def _newest_of(self, job: str) -> int:
        """Where the newest events of a job begin that are read at once."""
        with self._database.reading() as session:
            row = session.get(JobRow, job)
            return 0 if row is None else max(0, row.events - _AT_ONCE + 1)

    def _read(self, job: str, last: int) -> Told:
        with self._database.reading() as session:
            row = session.get(JobRow, job)
            key = None if row is None else session.get(KeyRow, row.owner)
            found = session.scalars(
                select(EventRow)
                .where(EventRow.job == job, EventRow.sequence > last)
                .order_by(EventRow.sequence)
                .limit(_AT_ONCE)
            )
            events = [
                EventInfo(sequence=e.sequence, kind=e.kind, at=e.at, data=e.data) for e in found
            ]
        if row is None or key is None or key.revoked is not None:
            return Told((), last, is_over=True)
        reached = events[-1].sequence if events else last
        texts = tuple(
            f"id: {event.sequence}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
            for event in events
        )
        is_over = row.state in ENDED and reached >= row.events
        return Told(texts, reached, is_over, key.digest)

    async def _look(self) -> None:
        last, looked = 0, time.monotonic()
        while True:
            try:
                last, looked = await self._looked(last, looked)
            except SQLAlchemyError as error:
                # whatever it is, nobody would be woken any more if this ended
                _log.warning("events: looked for again later: %s", error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _looked(self, last: int, looked: float) -> tuple[int, float]:
        """Wake whom something may concern; the newest event, and when all were woken."""
        last = last or await to_thread.run_sync(self._newest)
        changed, last = await to_thread.run_sync(self._since, last)
        if time.monotonic() - looked > _AT_LEAST_SECONDS:
            changed, looked = set(self._channels), time.monotonic()
        for job in changed & self._channels.keys():
            self._channels[job].wake()
        return last, looked

    def _newest(self) -> int:
        with self._database.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0

    def _since(self, last: int) -> tuple[set[str], int]:
        with self._database.reading() as session:
            rows = session.execute(select(EventRow.id, EventRow.job).where(EventRow.id > last))
            found = [(id_, job) for id_, job in rows]
        return {job for _, job in found}, max((id_ for id_, _ in found), default=last)
