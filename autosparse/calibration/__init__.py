"""Calibration: what a pass over the data tells about the activations.

`gradients` is imported by name: it needs torch, and the measuring process must not.
"""

from autosparse.calibration.layer_statistics import LayerStatisticsAccumulator, StatisticsObserver
from autosparse.calibration.range_estimators import ESTIMATORS, RangeEstimator
from autosparse.calibration.ranges import ActivationGrid, ActivationRanges, Range, RangeObserver
from autosparse.calibration.statistics import NO_STATISTICS, LayerStatistics
from autosparse.calibration.windows import Window, window_of

__all__ = [
    "NO_STATISTICS", "LayerStatistics", "LayerStatisticsAccumulator", "StatisticsObserver",
    "Window", "window_of",
    "ESTIMATORS", "ActivationGrid", "ActivationRanges", "Range", "RangeEstimator", "RangeObserver",
]  # fmt: skip
