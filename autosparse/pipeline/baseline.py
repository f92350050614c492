"""The baseline: the model as it came, timed in a fresh process and evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.errors import DisturbedError, MeasurementError, ModelError
from autosparse.evaluation import (
    Contract,
    Environment,
    Measurement,
    TimingSettings,
)
from autosparse.evaluation.metrics import Outputs
from autosparse.journal import Journal
from autosparse.pipeline.answer_check import check_answers
from autosparse.pipeline.job import Job
from autosparse.pipeline.stopwatch import BASELINE_LABEL


@dataclass(frozen=True)
class Baseline:
    """What every candidate is held against."""

    measurement: Measurement
    outputs: Outputs
    """Answers on the rows that select."""
    contract: Contract
    environment: Environment


def measure_baseline(job: Job) -> Baseline:
    """Time the original file and evaluate it, and resolve the contract against it.

    It is timed once per job and environment: a resumed job promises what it promised before.

    Raises:
        ModelError: the runtime cannot open or run the model.
        DataError: the model has no answer to some row.
        DisturbedError: the machine is too noisy to time anything.
    """
    environment = job.engines.lane.environment()
    known = _known(job, environment)
    try:
        measurement = known or _timed(job)
        outputs = job.answer(job.original, job.selecting)
        if known is None:
            check_answers(job, outputs)
    except DisturbedError:
        raise
    except MeasurementError as error:
        raise ModelError(
            f"{job.config.model.name} does not run: {error.message}",
            hint="check that it runs in ONNX Runtime with the inputs of the calibration file",
        ) from error
    value = job.metric.value(outputs, outputs, job.selecting.labels)
    contract = Contract(
        budget=job.config.latency_budget,
        percentile=job.config.percentile,
        max_drop=job.config.max_drop,
        strict=job.config.strict,
        baseline_seconds=measurement.percentile_seconds(job.config.percentile),
        baseline_quality=value,
    )
    return Baseline(measurement, outputs, contract, environment)


def _timed(job: Job) -> Measurement:
    job.engines.progress.stage("baseline", "timing the model as it came")
    timed = job.stopwatch.measure({BASELINE_LABEL: job.original}, TimingSettings(), fresh=True)
    _journal(job).append(timed[BASELINE_LABEL])
    return timed[BASELINE_LABEL]


def _known(job: Job, environment: Environment) -> Measurement | None:
    """What an earlier run of this job measured here."""
    # earlier versions were content with one round
    here = [m for m in _journal(job).records if m.environment == environment.id]
    records = [m for m in here if m.has_interval]
    return records[-1] if records else None


def _journal(job: Job) -> Journal[Measurement]:
    return Journal(job.workspace.baselines, Measurement)
