"""What became of a schedule's runs: kept when their jobs are deleted, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.tables import JobRow, RunRow
from autosparse.client.schedule_records import DifferenceInfo

Outcome = Mapping[str, Any]


def outcome_of(job: JobRow) -> dict[str, Any]:
    """What an ended job found, in the same words for every kind."""
    found: dict[str, Any] = {"state": job.state, "verdict": job.verdict, **(job.outcome or {})}
    if job.problem is not None:
        found["problem"] = job.problem
    if job.manifest is not None:
        latency = job.manifest.get("latency", {})
        percentile = job.manifest.get("contract", {}).get("percentile")
        found |= {
            "latency_ratio": latency.get("ratio"), "latency_seconds": latency.get(percentile),
            "drop": job.manifest.get("quality", {}).get("drop"),
            "recipe_id": job.manifest.get("recipe_id"),
            "environment": job.manifest.get("environment"),
        }  # fmt: skip
    return found


def note_end(session: Session, job: JobRow) -> None:
    """Keep what a job found with the run that it was, if it was one."""
    run = session.scalar(select(RunRow).where(RunRow.job == job.id))
    if run is not None:
        run.state, run.ended, run.outcome = "ended", job.finished, outcome_of(job)


def note_new_beginning(session: Session, job: JobRow) -> None:
    """A job that is resumed has not ended, and nor has its run."""
    run = session.scalar(select(RunRow).where(RunRow.job == job.id))
    if run is not None:
        run.state, run.ended = "started", None


def difference(now: RunRow, before: RunRow) -> DifferenceInfo:
    """One run against an earlier one; both found something."""
    new, old = now.outcome or {}, before.outcome or {}
    seconds = new.get("latency_seconds"), old.get("latency_seconds")
    families = dict.fromkeys([*old.get("break_even", {}), *new.get("break_even", {})])
    return DifferenceInfo(
        before=before.id,
        verdict_changed=new.get("verdict") != old.get("verdict"),
        recipe_changed=new.get("recipe_id") != old.get("recipe_id"),
        environment_changed=new.get("environment") != old.get("environment"),
        latency=seconds[0] / seconds[1] - 1.0 if seconds[0] and seconds[1] else None,
        latency_ratio=_change("latency_ratio", new, old),
        drop=_change("drop", new, old),
        break_even={
            family: pair
            for family in families
            if (pair := _break_evens(family, old, new)) is not None
        },
    )


def _break_evens(family: str, old: Outcome, new: Outcome) -> tuple[str, str] | None:
    before, now = (each.get("break_even", {}).get(family, "-") for each in (old, new))
    return None if before == now else (before, now)


def _change(name: str, new: Outcome, old: Outcome) -> float | None:
    if new.get(name) is None or old.get(name) is None:
        return None
    return float(new[name] - old[name])
