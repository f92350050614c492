"""Who follows a job is woken when something happens: one look at the database for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from api.database import Database
from api.tables import EventRow

_LOOK_SECONDS = 0.3
# Events of two jobs may be stored in another order than they are numbered: look anyway, sometimes.
_AT_LEAST_SECONDS = 5.0


class EventHub:
    """Looks for new events of any job while anybody follows one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def following(self, job: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever something may have happened to the job."""
        news = asyncio.Event()
        self._followers.setdefault(job, set()).add(news)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield news
        finally:
            self._followers[job].discard(news)
            if not self._followers[job]:
                del self._followers[job]
            if not self._followers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    @staticmethod
    async def wait(news: asyncio.Event) -> None:
        """Wait for news, though not for long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), _AT_LEAST_SECONDS)
        news.clear()

    async def _look(self) -> None:
        last = 0
        while True:
            # a database that is away for a while: who follows looks at times without being woken
            with contextlib.suppress(OperationalError):
                last = last or await to_thread.run_sync(self._newest)
                changed, last = await to_thread.run_sync(self._since, last)
                for job in changed:
                    for news in self._followers.get(job, ()):
                        news.set()
            await asyncio.sleep(_LOOK_SECONDS)

    def _newest(self) -> int:
        with self._database.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0

    def _since(self, last: int) -> tuple[set[str], int]:
        with self._database.reading() as session:
            rows = session.execute(select(EventRow.id, EventRow.job).where(EventRow.id > last))
            found = [(id_, job) for id_, job in rows]
        return {job for _, job in found}, max((id_ for id_, _ in found), default=last)
