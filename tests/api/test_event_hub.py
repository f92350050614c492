"""Followers are woken whatever happened to the last look at the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import InterfaceError

from api import event_hub
from api.event_hub import EventHub
from api.job_ledger import add_event
from api.tables import JobRow
from tests.api.queue_world import QueueWorld


@pytest.mark.parametrize("what", ["_newest", "_since"])
def test_an_error_of_the_database_ends_no_look_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name, seconds in (("_LOOK_SECONDS", 0.01), ("_AT_LEAST_SECONDS", 0.05)):
        monkeypatch.setattr(event_hub, name, seconds)
    world = QueueWorld(tmp_path / "home")
    job = world.job([])
    real, left = getattr(EventHub, what), [3]

    def flaky(self: EventHub, *given: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise InterfaceError("SELECT 1", None, OSError("the connection is closed"))
        return real(self, *given)

    monkeypatch.setattr(EventHub, what, flaky)

    def note() -> None:
        with world.database.writing() as session:
            add_event(session, session.get_one(JobRow, job), "note", {"text": "told"})

    async def follow() -> list[str]:
        hub, told = EventHub(world.database), list[str]()
        async with hub.following(job) as news:
            while not any("note" in text for text in told):
                found = await hub.behind(job, len(told))
                told += found.texts
                if not left[0] and len(told) == 1:
                    await asyncio.to_thread(note)
                await hub.wait(news)
        return told

    told = asyncio.run(asyncio.wait_for(follow(), 60))
    assert len(told) >= 2
    world.database.close()
