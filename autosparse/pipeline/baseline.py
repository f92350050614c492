"""The baseline: the model as it came, timed in a fresh process and evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.errors import ConfigError, DisturbedError, MeasurementError, ModelError
from autosparse.evaluation import Comparison, Contract, Environment, Measurement
from autosparse.evaluation.answers import Reference
from autosparse.evaluation.artifact_files import given_bytes
from autosparse.evaluation.noise import NoiseFloor
from autosparse.journal import Journal
from autosparse.pipeline.answer_check import check_answers
from autosparse.pipeline.first_answers import check_first_answers
from autosparse.pipeline.job import Job
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from autosparse.pipeline.verification import VERIFY_TIMING

_AGAIN = "baseline again"


@dataclass(frozen=True)
class Baseline:
    """What every candidate is held against."""

    measurement: Measurement
    reference: Reference
    """The dense model on the rows that select."""
    contract: Contract
    environment: Environment
    noise: NoiseFloor
    """How far the file differs from itself."""


def measure_baseline(job: Job) -> Baseline:
    """Time the original file and evaluate it, and resolve the contract against it.

    It is timed once per job and environment: a resumed job promises what it promised before.

    Raises:
        ModelError: the runtime cannot open or run the model.
        DataError: the model has no answer to some row, or the labels or the memory do not fit.
        DisturbedError: the machine is too noisy to time anything.
        ConfigError: memory is limited, and cannot be measured there.
    """
    environment = job.engines.lane.environment()
    known = _known(job, environment)
    try:
        if known is None:
            check_first_answers(job)
        measurement = known or _timed(job)
        noise = _noise_floor(job, environment)
        answers = job.kept(job.original, job.selecting, "selecting")
        if known is None:
            check_answers(job, answers)
    except DisturbedError:
        raise
    except MeasurementError as error:
        raise does_not_run(job, error) from error
    _check_memory(job, measurement)
    reference = job.reference(job.selecting, answers)
    contract = Contract(
        budget=job.config.latency_budget,
        percentile=job.config.percentile,
        max_drop=job.config.max_drop,
        strict=job.config.strict,
        baseline_seconds=measurement.percentile_seconds(job.config.percentile),
        baseline_quality=job.metric.aggregate(reference.scores, job.selecting.labels),
        max_size=job.config.max_size,
        max_memory=job.config.max_memory,
        baseline_size_bytes=given_bytes(job.original),
        baseline_peak_memory_bytes=measurement.peak_memory_bytes,
    )
    return Baseline(measurement, reference, contract, environment, noise)


def does_not_run(job: Job, error: MeasurementError) -> ModelError:
    """What to say where the runtime refuses the model as it came."""
    return ModelError(
        f"{job.config.model.name} does not run: {error.message}",
        hint="check that it runs in ONNX Runtime with the inputs of the calibration file",
    )


def _timed(job: Job) -> Measurement:
    measurement = _timed_twice(job).baseline
    _journal(job).append(measurement)
    return measurement


def _timed_twice(job: Job) -> Comparison:
    """Two sessions of the file in turns, as a candidate is verified: what differs is noise."""
    job.engines.progress.stage("baseline", "timing the model as it came")
    files = {BASELINE_LABEL: job.original, _AGAIN: job.original}
    timed = job.stopwatch.measure(files, VERIFY_TIMING, fresh=True)
    twice = Comparison(baseline=timed[BASELINE_LABEL], candidate=timed[_AGAIN])
    _raw(job).append(
        MeasuredTrial(recipe_id=BASELINE_LABEL, comparison=twice, purpose="noise floor")
    )
    return twice


def _noise_floor(job: Job, environment: Environment) -> NoiseFloor:
    """What is recorded of this environment; a job of an earlier version has nothing of it."""
    known = [
        record.comparison
        for record in _raw(job).records
        if record.purpose == "noise floor"
        and record.comparison.candidate.environment == environment.id
    ]
    return NoiseFloor.of(known[-1] if known else _timed_twice(job), job.config.percentile)


def _known(job: Job, environment: Environment) -> Measurement | None:
    """What an earlier run of this job measured here."""
    # earlier versions were content with one round
    here = [m for m in _journal(job).records if m.environment == environment.id]
    records = [m for m in here if m.has_interval]
    if job.config.max_memory is not None:  # an earlier version did not look at it
        records = [m for m in records if m.peak_memory_bytes is not None]
    return records[-1] if records else None


def _check_memory(job: Job, measurement: Measurement) -> None:
    if job.config.max_memory is None or measurement.peak_memory_bytes is not None:
        return
    where = "of a simulated device" if job.target.is_simulated else "where the files are timed"
    raise ConfigError(
        f"--max-memory {job.config.max_memory} cannot be kept: peak memory {where} is not known",
        hint="leave it away; it is measured on Linux, here or on a device with an agent",
    )


def _journal(job: Job) -> Journal[Measurement]:
    return Journal(job.workspace.baselines, Measurement)


def _raw(job: Job) -> Journal[MeasuredTrial]:
    return Journal(job.workspace.measurements, MeasuredTrial)
