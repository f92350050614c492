"""`autosparse.AsyncClient`: the same client, for programs with an event loop."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from autosparse.client.client import FRUITLESS_TRIES, Client, events_path
from autosparse.client.http import waited_seconds
from autosparse.client.keys import Keys
from autosparse.client.records import (
    ENDED,
    DatasetInfo,
    EventInfo,
    JobInfo,
    ModelInfo,
    TargetInfo,
    UploadProgress,
)
from autosparse.client.schedules import Schedules
from autosparse.client.server_events import EventReader
from autosparse.client.uploads import Uploads
from autosparse.client.webhooks import Webhooks
from autosparse.errors import ServiceError

Part = TypeVar("Part")
Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")
_THREADS = 8


class _Awaited(Generic[Part]):
    """A part of a client whose calls are awaited: each runs in a thread meanwhile."""

    def __init__(self, part: Part, threads: ThreadPoolExecutor) -> None:
        self._part = part
        self._threads = threads

    async def _apart(self, work: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        call = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _awaited(
    method: Callable[Concatenate[Part, Asked], Answer],
) -> Callable[Concatenate[_Awaited[Part], Asked], Coroutine[Any, Any, Answer]]:
    """A method of the client, to be awaited; its words and types are its own."""

    @functools.wraps(method)
    async def call(self: _Awaited[Part], /, *args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        return await self._apart(method, self._part, *args, **kwargs)

    return call


def _iterated(
    method: Callable[Concatenate[Part, Asked], Iterator[Answer]],
) -> Callable[Concatenate[_Awaited[Part], Asked], AsyncIterator[Answer]]:
    """A list of the client, for `async for`; its pages are asked for as they are needed."""

    @functools.wraps(method)
    async def call(
        self: _Awaited[Part], /, *args: Asked.args, **kwargs: Asked.kwargs
    ) -> AsyncIterator[Answer]:
        items = method(self._part, *args, **kwargs)
        while found := await self._apart(_next_one, items):
            yield found[0]

    return call


def _next_one(items: Iterator[Answer]) -> list[Answer]:
    return list(itertools.islice(items, 1))


class AsyncKeys(_Awaited[Keys]):
    """`Client.keys`, to be awaited."""

    make = _awaited(Keys.make)
    list = _awaited(Keys.list)
    revoke = _awaited(Keys.revoke)
    rotate = _awaited(Keys.rotate)


class AsyncModels(_Awaited[Uploads[ModelInfo]]):
    """`Client.models`, to be awaited."""

    list = _iterated(Uploads[ModelInfo].list)
    get = _awaited(Uploads[ModelInfo].get)
    delete = _awaited(Uploads[ModelInfo].delete)


class AsyncDatasets(_Awaited[Uploads[DatasetInfo]]):
    """`Client.datasets`, to be awaited."""

    list = _iterated(Uploads[DatasetInfo].list)
    get = _awaited(Uploads[DatasetInfo].get)
    delete = _awaited(Uploads[DatasetInfo].delete)


class AsyncTargets(_Awaited[Uploads[TargetInfo]]):
    """`Client.targets`, to be awaited."""

    list = _iterated(Uploads[TargetInfo].list)
    get = _awaited(Uploads[TargetInfo].get)
    delete = _awaited(Uploads[TargetInfo].delete)


class AsyncArriving(_Awaited[Uploads[UploadProgress]]):
    """`Client.arriving`, to be awaited."""

    list = _iterated(Uploads[UploadProgress].list)
    get = _awaited(Uploads[UploadProgress].get)
    delete = _awaited(Uploads[UploadProgress].delete)


class AsyncSchedules(_Awaited[Schedules]):
    """`Client.schedules`, to be awaited."""

    make = _awaited(Schedules.make)
    get = _awaited(Schedules.get)
    list = _iterated(Schedules.list)
    change = _awaited(Schedules.change)
    pause = _awaited(Schedules.pause)
    resume = _awaited(Schedules.resume)
    run = _awaited(Schedules.run)
    runs = _iterated(Schedules.runs)
    delete = _awaited(Schedules.delete)


class AsyncWebhooks(_Awaited[Webhooks]):
    """`Client.webhooks`, to be awaited."""

    make = _awaited(Webhooks.make)
    list = _awaited(Webhooks.list)
    test = _awaited(Webhooks.test)
    deliveries = _iterated(Webhooks.deliveries)
    delete = _awaited(Webhooks.delete)


class AsyncClient(_Awaited[Client]):
    """A service, as one key sees it: everything that `Client` has, to be awaited.

    Uploads and requests run in threads; events come over a connection of the loop's own, so that
    many jobs may be followed at once, and following one may be cancelled at any time.

    Args:
        url: where the service listens; without it `AUTOSPARSE_SERVER`, else this machine.
        key: bearer key; without it `AUTOSPARSE_KEY`.
        tries: how often a request is sent at most.
        timeout_seconds: how long one request may take.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        tries: int = 5,
        timeout_seconds: float = 300.0,
    ) -> None:
        client = Client(url, key, tries=tries, timeout_seconds=timeout_seconds)
        super().__init__(client, ThreadPoolExecutor(_THREADS, "autosparse-client"))
        self._streams = client.streams()
        self.keys = AsyncKeys(client.keys, self._threads)
        self.models = AsyncModels(client.models, self._threads)
        self.datasets = AsyncDatasets(client.datasets, self._threads)
        self.targets = AsyncTargets(client.targets, self._threads)
        self.arriving = AsyncArriving(client.arriving, self._threads)
        self.schedules = AsyncSchedules(client.schedules, self._threads)
        self.webhooks = AsyncWebhooks(client.webhooks, self._threads)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give all connections back."""
        await self._streams.close()
        await self._apart(self._part.close)
        self._threads.shutdown(wait=False)

    upload_model = _awaited(Client.upload_model)
    upload_dataset = _awaited(Client.upload_dataset)
    store_target = _awaited(Client.store_target)
    devices = _awaited(Client.devices)
    submit = _awaited(Client.submit)
    resolve = _awaited(Client.resolve)
    reverify = _awaited(Client.reverify)
    refresh_atlas = _awaited(Client.refresh_atlas)
    job = _awaited(Client.job)
    jobs = _iterated(Client.jobs)
    trials = _awaited(Client.trials)
    pareto = _awaited(Client.pareto)
    cancel = _awaited(Client.cancel)
    resume = _awaited(Client.resume)
    change = _awaited(Client.change)
    delete = _awaited(Client.delete)
    artifacts = _awaited(Client.artifacts)
    fetch = _awaited(Client.fetch)

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[EventInfo, None]:
        """What happens to a job, until it ends: each once, also across lost connections.

        Args:
            job_id: the job.
            after: go on behind the event with this sequence.

        Raises:
            ServiceError: the service cannot be reached for long.
        """
        fruitless = 0
        while True:
            before = after
            try:
                async with self._streams.stream(events_path(job_id), after) as lines:
                    reader = EventReader()
                    async for line in lines:
                        event = reader.read(line)
                        if event is not None:
                            after = event.sequence
                            yield event
                if (await self.job(job_id)).state in ENDED:
                    return
            except ServiceError:
                if fruitless >= FRUITLESS_TRIES:
                    raise
            fruitless = 0 if after > before else fruitless + 1
            await asyncio.sleep(waited_seconds(min(fruitless, 4)))

    async def wait(self, job_id: str) -> JobInfo:
        """Wait until a job has ended."""
        async for _ in self.events(job_id):
            pass
        return await self.job(job_id)
