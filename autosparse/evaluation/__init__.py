"""Evaluation: targets, budgets, measurement, quality, the gate, and the contract of a backend."""

from autosparse.evaluation.backend import (
    Backend,
    Capability,
    ExecutedLayer,
    LoweredModel,
    LoweringRequest,
    Runner,
)
from autosparse.evaluation.budget import Budget, MaxBytes, MaxDrop, Percentile
from autosparse.evaluation.environment import Environment, read_environment
from autosparse.evaluation.gate import Contract, Evidence, Verdict
from autosparse.evaluation.lane import MeasurementLane
from autosparse.evaluation.measurement import Comparison, Interval, Measurement
from autosparse.evaluation.quality import Quality
from autosparse.evaluation.target import Target
from autosparse.evaluation.timing import TimingSettings

__all__ = [
    "Backend", "Budget", "Capability", "Comparison", "Contract", "Environment", "Evidence",
    "ExecutedLayer", "Interval", "LoweredModel", "LoweringRequest", "MaxBytes", "MaxDrop",
    "Measurement", "MeasurementLane", "Percentile", "Quality", "Runner", "Target",
    "TimingSettings", "Verdict", "read_environment",
]  # fmt: skip
