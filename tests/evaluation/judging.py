"""Candidates judged by answers that are given whole."""

from __future__ import annotations

from autosparse.datasets import Dataset
from autosparse.evaluation import Quality
from autosparse.evaluation.metrics import Metric, Outputs
from autosparse.evaluation.quality import compare_quality


def judged(metric: Metric, candidate: Outputs, dense: Outputs, data: Dataset) -> Quality:
    """The quality of a candidate; the dense model itself where that is given."""
    theirs = metric.score(dense, dense, data.labels)
    mine = theirs if candidate is dense else metric.score(candidate, dense, data.labels)
    return compare_quality(metric, mine, theirs, data.labels)
