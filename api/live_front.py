"""The quality-latency plot of a job as it stands, drawn as the report draws it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.tables import JobRow, TrialRow
from autosparse.artifacts.manifest import Manifest
from autosparse.artifacts.report import render_front
from autosparse.artifacts.report_front import FrontSource
from autosparse.errors import NotFoundError
from autosparse.evaluation import Contract
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.delivery import trial_points
from autosparse.pipeline.records import TrialRecord

_NO_PLAIN_INT8 = ""  # which recipe that is, only the level table knows


def live_front(session: Session, job: JobRow) -> str:
    """The plot as a piece of HTML.

    Raises:
        NotFoundError: there is no trial yet.
    """
    chosen = select(TrialRow).where(TrialRow.job == job.id).order_by(TrialRow.number)
    records = [TrialRecord.model_validate(row.record) for row in session.scalars(chosen)]
    if not records:
        raise NotFoundError("the job has no trial yet", hint="wait until it searches")
    last = records[-1]
    manifest = None if job.manifest is None else Manifest.model_validate(job.manifest)
    contract = _contract(job, last) if manifest is None else manifest.contract
    # seconds of another environment mean nothing here
    same = tuple(record for record in records if record.environment == last.environment)
    return render_front(
        FrontSource(
            trials=trial_points(same, contract, _NO_PLAIN_INT8),
            contract=contract,
            metric=last.quality.metric,
            delivered=None if manifest is None else manifest.recipe_id,
        )
    )


def _contract(job: JobRow, last: TrialRecord) -> Contract:
    config = JobConfig.model_validate(job.config)
    return Contract(
        budget=config.latency_budget, percentile=config.percentile, max_drop=config.max_drop,
        strict=config.strict, baseline_seconds=last.baseline_seconds,
        baseline_quality=last.quality.baseline_value,
    )  # fmt: skip
