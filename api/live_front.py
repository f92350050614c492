"""The quality-latency plot of a job as it stands, drawn as the report draws it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.job_kinds import RESOLVE
from api.service import Service
from api.shown_files import shown_directory
from api.tables import JobRow, TrialRow
from autosparse.artifacts.manifest import Manifest
from autosparse.artifacts.report import render_front
from autosparse.artifacts.report_front import FrontSource
from autosparse.errors import NotFoundError
from autosparse.evaluation import Contract
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.trial_points import trial_points
from autosparse.pipeline.workspace import Workspace

_NO_PLAIN_INT8 = ""  # which recipe that is, only the level table knows


def live_front(service: Service, session: Session, job: JobRow) -> str:
    """The plot as a piece of HTML.

    Raises:
        NotFoundError: there is no trial yet.
    """
    records = trial_records(session, job)
    last, contract = records[-1], contract_of(service, job, records[-1])
    # seconds of another environment mean nothing here
    same = tuple(record for record in records if record.environment == last.environment)
    return render_front(
        FrontSource(
            trials=trial_points(same, contract, _NO_PLAIN_INT8),
            contract=contract,
            metric=last.quality.metric,
            delivered=None if job.manifest is None else job.manifest["recipe_id"],
        )
    )


def trial_records(session: Session, job: JobRow) -> list[TrialRecord]:
    """The trials of a job, in order.

    Raises:
        NotFoundError: there is none yet.
    """
    chosen = select(TrialRow).where(TrialRow.job == job.id).order_by(TrialRow.number)
    records = [TrialRecord.model_validate(row.record) for row in session.scalars(chosen)]
    if not records:
        raise NotFoundError("the job has no trial yet", hint="wait until it searches")
    return records


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
