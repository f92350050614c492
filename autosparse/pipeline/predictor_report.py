"""How far the latency predictor can be trusted, from recipes left out of its own fit."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from autosparse.artifacts.report_data import PredictorReport
from autosparse.search.latency_predictor import LatencyPredictor

_FEWEST = 8


def predictor_report(predictor: LatencyPredictor) -> PredictorReport | None:
    """Errors on every measured recipe, each predicted without itself; None for too few."""
    left_out = predictor.left_out()
    if len(left_out) < _FEWEST:
        return None
    measured = np.array([one.measured for one in left_out])
    predicted = np.array([one.prediction.ratio for one in left_out])
    sums = np.array([predictor.table_sum(one.recipe) for one in left_out])
    return PredictorReport(
        recipes=len(left_out),
        kendall_tau=float(kendalltau(predicted, measured).statistic),
        median_error=float(np.median(np.abs(predicted - measured) / measured)),
        table_sum_error=float(np.median(np.abs(sums - measured) / measured)),
        points=tuple(zip(measured.tolist(), predicted.tolist(), strict=True)),
        intervals=tuple((one.prediction.low, one.prediction.high) for one in left_out),
        inside=sum(one.is_inside for one in left_out),
    )
