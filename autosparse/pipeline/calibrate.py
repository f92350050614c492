"""Calibration: one streamed pass over the data through the runtime that will ship the model."""

from __future__ import annotations

import os

from autosparse.calibration import ActivationRanges, RangeObserver
from autosparse.datasets import batches
from autosparse.pipeline.job import Job, first_rows

_ROWS = 512


def calibrate(job: Job) -> ActivationRanges:
    """Observe every tensor that may be quantized, batch by batch, keeping none of them."""
    data = first_rows(job.calibration, _ROWS)
    job.engines.progress.stage("calibrate", f"{len(data)} rows")
    backend = job.engines.backend
    tensors = backend.calibrated_tensors(job.graph)
    runner = backend.probe(job.graph, tensors, threads=len(os.sched_getaffinity(0)))
    observer = RangeObserver()
    wanted = set(tensors)
    done = 0
    for batch, real in batches(data.inputs, job.evaluation_batch):
        for name, values in {**batch, **runner.run(batch)}.items():
            if name in wanted:
                observer.observe(name, values[:real].astype("float32", copy=False))
        done += real
        job.engines.progress.step(done, len(data))
    return observer.ranges()
