"""What a tracking server is told of a job: read from the database, in no library's words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.job_directory import FILE_FIELDS
from api.job_kinds import SEARCH
from api.job_request import OWN_FIELDS, accepted_fields
from api.run_history import outcome_of
from api.tables import EventRow, JobRow, KeyRow, TargetRow, TrialRow, UploadRow
from autosparse.pipeline.config import JobConfig

_LONGEST_VALUE = 500  # what every tracking server takes
Numbers = Mapping[str, float]
Words = Mapping[str, str]


@dataclass(frozen=True)
class TrackedTrial:
    """One trial."""

    number: int
    at: float
    """When it was stored: UTC seconds."""
    is_best: bool
    """Whether it was the best one so far."""
    params: Words
    metrics: Numbers
    """Latencies in seconds, ratios and drops as fractions."""


@dataclass(frozen=True)
class TrackedJob:
    """One job as it is now."""

    id: str
    name: str
    owner: str
    """Name of the key that submitted it."""
    state: str
    created: float
    """UTC seconds."""
    finished: float | None
    """UTC seconds; None while it has not ended."""
    params: Words
    """What was asked, and the digests of what was given."""
    tags: Words
    metrics: Numbers
    """What it came to; in the units of a trial's."""
    trials: tuple[TrackedTrial, ...]
    """Those that may not have been told yet."""


def read_tracked(session: Session, job: JobRow, known: int = 0) -> TrackedJob:
    """What is told of a job.

    Args:
        session: of the database.
        job: as it is now.
        known: sequence of the last event that it was told of wholly: no earlier trial is read.
    """
    tags = {"autosparse.kind": job.kind, "autosparse.state": job.state}
    if job.verdict is not None:
        tags["autosparse.verdict"] = job.verdict
    if job.problem is not None:
        tags["autosparse.problem"] = _text(job.problem.get("detail", ""))
    return TrackedJob(
        id=job.id, name=job.name or job.id, owner=session.get_one(KeyRow, job.owner).name,
        state=job.state, created=job.created, finished=job.finished,
        params=_params(session, job), tags=tags, metrics=_found(job),
        trials=tuple(_trials(session, job, known)),
    )  # fmt: skip


def _params(session: Session, job: JobRow) -> dict[str, str]:
    asked: dict[str, Any] = {k: v for k, v in job.request.items() if k not in OWN_FIELDS}
    if job.kind == SEARCH:
        config = JobConfig.model_validate(job.config).model_dump(mode="json")
        asked = {**{k: config[k] for k in accepted_fields()}, **asked}
    told = {k: _text(v) for k, v in asked.items() if v not in (None, "", [], {})}
    for field in told.keys() & set(FILE_FIELDS):
        upload = session.get(UploadRow, told[field]) or session.get(TargetRow, told[field])
        if upload is not None:
            told[field] = _text(upload.name or upload.id)
        if isinstance(upload, UploadRow):
            told[f"{field}_sha256"] = upload.sha256
    return told


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _trials(session: Session, job: JobRow, known: int) -> list[TrackedTrial]:
    mine = (EventRow.job == job.id) & (EventRow.sequence > known) & (EventRow.kind == "trial")
    told = {event.data["number"]: event for event in session.scalars(select(EventRow).where(mine))}
    if not told:
        return []
    behind = (TrialRow.job == job.id) & (TrialRow.number >= min(told))
    rows = session.scalars(select(TrialRow).where(behind).order_by(TrialRow.number))
    # one that was stored between the two looks is told the next time
    return [_trial(row, told[row.number]) for row in rows if row.number in told]


def _trial(row: TrialRow, event: EventRow) -> TrackedTrial:
    record: Mapping[str, Any] = row.record
    evidence, quality = record["evidence"], record["quality"]
    return TrackedTrial(
        number=row.number, at=event.at, is_best=event.data["best"] == row.recipe,
        params={"recipe_id": row.recipe, "proposed_by": record["proposed_by"],
                "environment": row.environment, "metric": quality["metric"]},
        metrics=_numbers(
            {
                **{k: v for k, v in evidence.items() if k != "recipe_id"},
                "latency_seconds": record["latency_seconds"],
                "baseline_seconds": record["baseline_seconds"],
                "quality": quality["value"], "baseline_quality": quality["baseline_value"],
            }
        ),
    )  # fmt: skip


def _found(job: JobRow) -> dict[str, float]:
    """What an ended job came to, with the bounds of its intervals."""
    found = {k: v for k, v in outcome_of(job).items() if k not in ("state", "verdict")}
    if job.manifest is not None:
        latency, quality = job.manifest.get("latency", {}), job.manifest.get("quality", {})
        ratio, drop = latency.get("ratio_interval") or {}, quality.get("drop_interval") or {}
        percentile = job.manifest.get("contract", {}).get("percentile")
        found |= {
            "latency_ratio_low": ratio.get("low"), "latency_ratio_high": ratio.get("high"),
            "drop_low": drop.get("low"), "drop_high": drop.get("high"),
            "quality": quality.get("value"), "baseline_quality": quality.get("baseline_value"),
            "baseline_seconds": latency.get(f"baseline_{percentile}"),
            "candidates": job.manifest.get("search", {}).get("candidates"),
        }  # fmt: skip
    return _numbers(found)


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Of these values, those that are finite numbers."""
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
