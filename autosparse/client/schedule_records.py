"""What the service and its clients say to each other of schedules. As `records.py`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from autosparse.client.records import ProblemInfo, Record

ScheduleKind = Literal["search", "reverify", "refresh_atlas"]
Missed = Literal["skip", "once", "all"]
Overlap = Literal["skip", "queue", "replace"]
RunState = Literal[
    "starting", "queued", "running", "finished", "failed", "cancelled", "skipped", "missed",
    "refused",
]  # fmt: skip


class ScheduleInfo(Record):
    """Something that is done again and again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "sch_3Nv8Xc1bKq6WtRm9PzLd5f",
                    "name": "nightly check",
                    "kind": "reverify",
                    "cron": "0 3 * * *",
                    "time_zone": "Europe/Berlin",
                    "told": "At 03:00 every day",
                    "request": {"job": "job_7Rm3Kc9xWd5NqLf0HtVz2b", "tolerance": 0.1},
                    "missed": "once",
                    "overlap": "skip",
                    "created": 1795323760.2,
                    "paused": False,
                    "next_due": 1795399200.0,
                }
            ]
        }
    )

    id: str
    """Begins with `sch_`."""
    name: str = ""
    """As given; for people."""
    kind: ScheduleKind
    """search (again), reverify (measure a bundle again) or refresh_atlas."""
    cron: str
    """Minute, hour, day of month, month, day of week."""
    time_zone: str
    """Name of the IANA database."""
    told: str = ""
    """The cron expression in words."""
    request: dict[str, Any]
    """What every run's job is asked."""
    missed: Missed
    """What is done about times that passed while the service was down: skip, once or all."""
    overlap: Overlap
    """What is done where the former run has not ended: skip, queue or replace."""
    created: float
    """When it was made."""
    paused: bool = False
    """Whether nothing is begun."""
    next_due: float | None = None
    """When next; null while it is paused."""


class DifferenceInfo(Record):
    """One run against the run before it that found something."""

    before: str
    """Id of the run before."""
    verdict_changed: bool = False
    """Whether the verdict is another one."""
    recipe_changed: bool = False
    """Whether another recipe was delivered."""
    environment_changed: bool = False
    """Whether processor, system or a library is another one."""
    latency: float | None = None
    """Latency over the former one, minus 1: 0.1 is 10 % slower."""
    latency_ratio: float | None = None
    """Share of the baseline's latency, minus the former one."""
    drop: float | None = None
    """Loss of quality, minus the former one."""
    break_even: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """Of an atlas: family of levels -> break-even before and now, where they differ."""


class RunInfo(Record):
    """One run of a schedule, or why there was none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "run_6Hg2Tz7yVb0MjSk4CnQw8e",
                    "cause": "cron",
                    "due": 1795399200.0,
                    "state": "finished",
                    "job": "job_2Ld9Wp4sXe7ZuCq1RvFy6h",
                    "ended": 1795399262.7,
                    "outcome": {"verdict": "met", "latency_ratio": 0.57, "regressions": []},
                    "difference": {
                        "before": "run_9Ux5Kf3nGa8BdTi2OrHm1c",
                        "latency": 0.004,
                        "latency_ratio": 0.001,
                        "drop": 0.0,
                    },
                }
            ]
        }
    )

    id: str
    """Begins with `run_`."""
    cause: Literal["cron", "hand"]
    """Whether its time had come, or somebody asked."""
    due: float
    """When it was due."""
    missed: int = 0
    """Earlier times that it stands for, too."""
    state: RunState
    """Its job's; or skipped, missed or refused, where there is none."""
    reason: str = ""
    """Why there was none."""
    job: str | None = None
    """Its job, which may have been deleted since."""
    ended: float | None = None
    """When it ended."""
    outcome: dict[str, Any] | None = None
    """What it found: verdict, latency_ratio, latency_seconds, drop, recipe_id, environment,
    regressions, break_even; as far as its kind has them."""
    problem: ProblemInfo | None = None
    """Why it failed or was refused."""
    difference: DifferenceInfo | None = None
    """Against the run before it that found something."""
