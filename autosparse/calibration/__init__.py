"""Calibration: what one pass over the data tells about the activations."""

from autosparse.calibration.ranges import ActivationRanges, Range, RangeObserver
from autosparse.calibration.statistics import NO_STATISTICS, LayerStatistics

__all__ = ["NO_STATISTICS", "ActivationRanges", "LayerStatistics", "Range", "RangeObserver"]
