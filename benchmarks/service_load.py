"""Load on a running service: followers of one job's events, and reads at a steady rate.

Reads are sent at set times, whatever became of those before them, and are timed from then on: a
server that stands still is not spared the requests that it would have had to answer meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import httpx2 as httpx
import psutil
from pydantic import ValidationError

from autosparse.client.records import EventInfo
from benchmarks.memory import anonymous_bytes, pss_bytes

_MEMORY_SECONDS = 1.0
_READ_SECONDS = 30.0
_SETTLE_SECONDS = 1.0
_RUNNER = "api.runner"


@dataclass(frozen=True)
class LoadedServer:
    """The server that is asked."""

    url: str
    key: str
    pid: int


@dataclass(frozen=True)
class LoadPlan:
    """How much, and for how long."""

    followers: int
    reads_per_second: float
    seconds: float


@dataclass
class Follower:
    """What one follower was told."""

    sequences: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    """Seconds from when an event was stored until it came; not of those stored before."""
    ended: str = ""
    """How its stream ended, where it was not ended by us."""

    @property
    def faults(self) -> int:
        """Events that came twice, out of order, or not at all between the first and the last."""
        return sum(b != a + 1 for a, b in zip([0, *self.sequences], self.sequences, strict=False))


@dataclass
class Load:
    """What was seen."""

    followers: list[Follower] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    """Seconds, of every read that was answered."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Reads by status, or by the error of their connection."""
    memory: dict[str, list[int]] = field(default_factory=dict)
    """Process -> bytes, once a second."""
    anonymous: dict[str, list[int]] = field(default_factory=dict)
    """The part of it that is no file's."""
    processor: dict[str, float] = field(default_factory=dict)
    """`server` and `load` -> seconds of processor time."""

    @property
    def failed(self) -> int:
        """Reads that were answered with 5xx, or not at all."""
        return sum(n for told, n in self.statuses.items() if not told.startswith(("2", "4")))

    @property
    def delays(self) -> list[float]:
        """Of all followers together."""
        return [delay for follower in self.followers for delay in follower.delays]


def reads_of(job: str) -> tuple[str, ...]:
    """What dashboards and scripts ask for, by turns."""
    return (
        "/v1/jobs", f"/v1/jobs/{job}", f"/v1/jobs/{job}/trials", f"/v1/jobs/{job}/pareto",
        "/v1/models", f"/v1/jobs/{job}/artifacts", f"/v1/jobs/{job}/logs", "/healthz",
        f"/v1/jobs/{job}", "/v1/datasets",
    )  # fmt: skip


def put_under_load(server: LoadedServer, job: str, plan: LoadPlan) -> Load:
    """Follow a running job and read of it, for as long as the plan says."""
    return asyncio.run(_put_under_load(server, job, plan))


async def _put_under_load(server: LoadedServer, job: str, plan: LoadPlan) -> Load:
    load, before = Load(), _processor_seconds(server.pid)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=plan.followers)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=_READ_SECONDS, limits=limits,
        headers={"Authorization": f"Bearer {server.key}"},
    ) as client:  # fmt: skip
        started = time.time()
        following = []
        for _ in range(plan.followers):
            follower = Follower()
            load.followers.append(follower)
            following.append(asyncio.create_task(_follow(client, job, follower, started)))
        watching = asyncio.create_task(_watch_memory(server.pid, load))
        await _read_steadily(client, reads_of(job), plan, load)
        await asyncio.sleep(_SETTLE_SECONDS)
        for task in (watching, *following):
            task.cancel()
        await asyncio.gather(watching, *following, return_exceptions=True)
    after = _processor_seconds(server.pid)
    load.processor = {name: after[name] - before[name] for name in after}
    return load


def _processor_seconds(server: int) -> dict[str, float]:
    times = psutil.Process(server).cpu_times()
    return {"server": times.user + times.system, "load": time.process_time()}


async def _follow(client: httpx.AsyncClient, job: str, follower: Follower, since: float) -> None:
    path = f"/v1/jobs/{job}/events"
    try:
        async with client.stream("GET", path, timeout=httpx.Timeout(_READ_SECONDS)) as answer:
            follower.ended = str(answer.status_code)
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    event = EventInfo.model_validate_json(line.removeprefix("data:"))
                    follower.sequences.append(event.sequence)
                    if event.at > since:
                        follower.delays.append(time.time() - event.at)
        follower.ended = "the stream ended"
    except (httpx.HTTPError, ValidationError) as error:
        follower.ended = type(error).__name__


async def _read_steadily(
    client: httpx.AsyncClient, paths: Sequence[str], plan: LoadPlan, load: Load
) -> None:
    started = time.monotonic()
    turns: Iterator[str] = cycle(paths)
    pending = set()
    for number in range(round(plan.seconds * plan.reads_per_second)):
        due = started + number / plan.reads_per_second
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(_read(client, next(turns), due, load))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)


async def _read(client: httpx.AsyncClient, path: str, due: float, load: Load) -> None:
    try:
        answer = await client.get(path)
    except httpx.HTTPError as error:
        load.statuses[type(error).__name__] += 1
        return
    load.latencies.append(time.monotonic() - due)
    load.statuses[str(answer.status_code)] += 1


async def _watch_memory(server: int, load: Load) -> None:
    """The server's own process and the runner's; not what jobs take."""
    processes = {"server": server, "runner": _runner(server)}
    while True:
        for name, pid in processes.items():
            if pid is not None:
                load.memory.setdefault(name, []).append(pss_bytes(pid))
                load.anonymous.setdefault(name, []).append(anonymous_bytes(pid))
        await asyncio.sleep(_MEMORY_SECONDS)


def _runner(server: int) -> int | None:
    for child in psutil.Process(server).children():
        if any(_RUNNER in part for part in child.cmdline()):
            return child.pid
    return None
