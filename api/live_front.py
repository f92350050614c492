"""The quality-latency plot of a job as it stands, drawn as the report draws it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.job_kinds import RESOLVE
from api.service import Service
from api.shown_files import shown_directory
from api.tables import JobRow, TrialRow
from autosparse.artifacts.manifest import Manifest
from autosparse.artifacts.report import render_front
from autosparse.artifacts.report_data import TrialPoint
from autosparse.artifacts.report_front import FrontSource
from autosparse.errors import NotFoundError
from autosparse.evaluation import Contract
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.trial_points import trial_points
from autosparse.pipeline.workspace import Workspace

_AT_ONCE = 100
_NO_PLAIN_INT8 = ""  # which recipe that is, only the level table knows


def live_front(service: Service, session: Session, job: JobRow) -> bytes:
    """The plot as a piece of HTML: drawn anew when something has happened to the job.

    Raises:
        NotFoundError: there is no trial yet.
    """
    draw = partial(_drawn, service, session, job)
    return service.texts.get(f"front of {job.id}", job.events, draw)


def _drawn(service: Service, session: Session, job: JobRow) -> str:
    last = last_trial(session, job)
    contract = contract_of(service, job, last)
    return render_front(
        FrontSource(
            trials=tuple(_points(session, job, last.environment, contract)),
            contract=contract,
            metric=last.quality.metric,
            delivered=None if job.manifest is None else job.manifest["recipe_id"],
        )
    )


def _points(
    session: Session, job: JobRow, environment: str, contract: Contract
) -> Iterator[TrialPoint]:
    """The trials that the plot has; a record holds the level of every layer, so one at a time."""
    # seconds of another environment mean nothing here
    mine = (TrialRow.job == job.id) & (TrialRow.environment == environment)
    chosen = select(TrialRow.record).where(mine).order_by(TrialRow.number)
    for record in session.scalars(chosen.execution_options(yield_per=_AT_ONCE)):
        yield from trial_points((TrialRecord.model_validate(record),), contract, _NO_PLAIN_INT8)


def last_trial(session: Session, job: JobRow) -> TrialRecord:
    """The last trial of a job.

    Raises:
        NotFoundError: there is none yet.
    """
    mine = select(TrialRow.record).where(TrialRow.job == job.id)
    record = session.scalar(mine.order_by(TrialRow.number.desc()).limit(1))
    if record is None:
        raise NotFoundError("the job has no trial yet", hint="wait until it searches")
    return TrialRecord.model_validate(record)


def contract_of(service: Service, job: JobRow, last: TrialRecord) -> Contract:
    """What the job's trials are held against: what was delivered, or what is asked for.

    Args:
        service: where the job's files are.
        job: whose.
        last: its last trial.
    """
    if job.manifest is not None:
        return Manifest.model_validate(job.manifest).contract
    config = _config(service, job)
    return Contract(
        budget=config.latency_budget, percentile=config.percentile, max_drop=config.max_drop,
        strict=config.strict, baseline_seconds=last.baseline_seconds,
        baseline_quality=last.quality.baseline_value, max_size=config.max_size,
        max_memory=config.max_memory, baseline_size_bytes=last.baseline_size_bytes,
        baseline_peak_memory_bytes=last.baseline_peak_memory_bytes,
    )  # fmt: skip


def _config(service: Service, job: JobRow) -> JobConfig:
    if job.kind != RESOLVE:
        return JobConfig.model_validate(job.config)
    # it was asked for what is to be different; what came of it, its process has written down
    stored = Workspace(shown_directory(service, job) / "out").config
    if not stored.is_file():
        raise NotFoundError("the job's configuration is not kept yet", hint="try again in a moment")
    return JobConfig.model_validate_json(stored.read_bytes())
