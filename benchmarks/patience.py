"""Timing on a machine that others may disturb: wait for it to be quiet rather than lose a cell."""

from __future__ import annotations

import time

from autosparse.errors import MeasurementError
from autosparse.evaluation import Comparison, LoweredModel, Measurement, TimingSettings
from autosparse.pipeline.job import Job
from autosparse.pipeline.stopwatch import BASELINE_LABEL

_PAUSES_SECONDS = (10.0, 30.0, 60.0)


def measure_beside_baseline(
    job: Job, files: dict[str, LoweredModel], settings: TimingSettings, *, fresh: bool = False
) -> dict[str, Measurement]:
    """Time files and the model as it came in one interleaved run.

    Raises:
        MeasurementError: a file does not run, or the machine never became quiet.
    """
    everything = {BASELINE_LABEL: job.original, **files}
    for pause_seconds in _PAUSES_SECONDS:
        try:
            return job.stopwatch.measure(everything, settings, fresh=fresh)
        except MeasurementError:
            time.sleep(pause_seconds)
    return job.stopwatch.measure(everything, settings, fresh=fresh)


def latency_ratios(
    job: Job, files: dict[str, LoweredModel], settings: TimingSettings, *, fresh: bool = False
) -> dict[str, float]:
    """Label -> latency over the baseline's, at the percentile that the job bounds."""
    timed = measure_beside_baseline(job, files, settings, fresh=fresh)
    baseline = timed[BASELINE_LABEL]
    return {
        label: Comparison(baseline=baseline, candidate=timed[label]).ratio(job.config.percentile)
        for label in files
    }
