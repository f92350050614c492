"""`autosparse.AsyncClient`: what `Client` has, awaited; and many streams in one thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.job_ledger import add_event
from api.tables import JobRow
from autosparse import AsyncClient, Client
from autosparse.client import async_client
from autosparse.client.http import AsyncStreams
from autosparse.client.keys import Keys
from autosparse.client.schedules import Schedules
from autosparse.client.uploads import Uploads
from autosparse.client.webhooks import Webhooks
from autosparse.errors import DataError, NotFoundError, ServiceError
from tests.api.live_service import LiveService, listening, rows_file
from tests.api.seeded import add_job
from tests.api.test_deliveries import deliver, end

PARTS: list[tuple[type, type]] = [
    (Client, AsyncClient), (Keys, async_client.AsyncKeys),
    (Schedules, async_client.AsyncSchedules), (Webhooks, async_client.AsyncWebhooks),
    (Uploads, async_client.AsyncModels), (Uploads, async_client.AsyncDatasets),
    (Uploads, async_client.AsyncTargets), (Uploads, async_client.AsyncArriving),
]  # fmt: skip
NOT_AWAITED = {"streams"}


@pytest.fixture
def url(live: LiveService) -> Iterator[str]:
    with listening(live.service) as address:
        yield address


def public(part: type) -> dict[str, Callable[..., Any]]:
    return {name: each for name, each in inspect.getmembers(part, callable) if name[0] != "_"}


@pytest.mark.parametrize(("plain", "awaited"), PARTS)
def test_it_has_all_that_the_other_has(plain: type, awaited: type) -> None:
    """With the same words, and what each does is told."""
    mine, theirs = public(awaited), public(plain)
    assert mine.keys() == theirs.keys() - NOT_AWAITED
    for name, method in mine.items():
        asked, known = (inspect.signature(each).parameters for each in (method, theirs[name]))
        assert asked == known, name
        assert inspect.getdoc(method) == inspect.getdoc(theirs[name])
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name


def test_submit_follow_fetch(
    live: LiveService, url: str, residual_model: Path, tmp_path: Path
) -> None:
    rows_file(tmp_path / "rows.npz")
    rows_file(tmp_path / "plain.npz", labels=False)

    async def story() -> list[str]:
        async with AsyncClient(url, live.key) as client:
            job = await client.submit(
                residual_model, calibration=tmp_path / "plain.npz",
                validation=tmp_path / "rows.npz", latency_budget="60%", space="int8",
            )  # fmt: skip
            assert [found.id async for found in client.jobs("queued")] == [job.id]
            (model,) = [one async for one in client.models.list()]
            assert model.needed_by == (job.id,)

            def work() -> None:
                deliver(live, job.id)
                end(live, job.id, notes=2)

            worker = threading.Thread(target=work)
            worker.start()
            kinds = [event.kind async for event in client.events(job.id)]
            worker.join()
            assert (await client.wait(job.id)).verdict == "met"
            bundle = await client.fetch(job.id, tmp_path / "bundle")
            assert (bundle / "kernels" / "lib.so").read_bytes() == b"\x7fELF"
            assert [key.name for key in await client.keys.list()] == ["first"]
            assert [one async for one in client.schedules.list()] == []
            return kinds

    assert asyncio.run(story()) == ["state", "state", "note", "note", "trial", "state"]


def test_problems_are_our_errors(live: LiveService, url: str, tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_bytes(b"nothing")

    async def story() -> None:
        async with AsyncClient(url, live.key, tries=1) as client:
            with pytest.raises(DataError, match="npz"):
                await client.upload_dataset(tmp_path / "no.npz")
            with pytest.raises(NotFoundError):
                await client.wait("job_none")
        async with AsyncClient("http://127.0.0.1:9", tries=1) as nobody:
            with pytest.raises(ServiceError, match="cannot be reached"):
                await nobody.job("job_none")

    asyncio.run(story())


def test_many_are_followed_at_once_and_may_be_left(live: LiveService, url: str) -> None:
    """More streams than there are threads; who leaves one does not wait for its next event."""
    job = add_job(live, "followed")

    async def first(client: AsyncClient) -> int:
        async with aclosing(client.events(job)) as events:
            return (await anext(events)).sequence

    async def forever(client: AsyncClient) -> None:
        async for _ in client.events(job):
            pass

    async def story() -> list[int]:
        async with AsyncClient(url, live.key) as client:
            following = [asyncio.create_task(forever(client)) for _ in range(20)]
            seen = await asyncio.gather(*(first(client) for _ in range(20)))
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            assert all(task.cancelled() for task in following)
        return seen

    assert asyncio.run(asyncio.wait_for(story(), 60)) == [1] * 20


def test_a_stream_that_breaks_off_is_gone_on_with(
    live: LiveService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, asked = add_job(live, "followed"), list[int]()
    with live.service.database.writing() as session:
        row = session.get_one(JobRow, job)
        add_event(session, row, "note", {"text": "one"})
        add_event(session, row, "state", {"state": "cancelled"})
        row.state = "cancelled"
    real = AsyncStreams.stream

    @asynccontextmanager
    async def flaky(self: AsyncStreams, path: str, after: int) -> AsyncIterator[AsyncIterator[str]]:
        asked.append(after)
        async with real(self, path, after) as lines:

            async def some() -> AsyncIterator[str]:
                async for line in lines:
                    yield line
                    if not line and len(asked) < 3:  # behind a whole event
                        raise ServiceError("broken")

            yield some()

    monkeypatch.setattr(AsyncStreams, "stream", flaky)
    monkeypatch.setattr(async_client, "waited_seconds", lambda _: 0.0)

    async def story() -> list[int]:
        async with AsyncClient(url, live.key) as client:
            return [event.sequence async for event in client.events(job)]

    assert asyncio.run(story()) == [1, 2, 3]
    assert asked == [0, 1, 2]
