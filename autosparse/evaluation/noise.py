"""The noise floor: how far two sessions of one file differ on a machine, timed in turns."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from autosparse.evaluation.budget import Percentile
from autosparse.evaluation.measurement import Comparison, Interval


class NoiseFloor(BaseModel):
    """What the machine makes of no difference at all."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    percentile: Percentile
    """Percentile of the latencies that were compared."""
    ratio_interval: Interval
    """95 % interval of the file's latency over its own, from one interleaved run."""
    rounds: int
    """Undisturbed rounds that it rests on."""

    @classmethod
    def of(cls, twice: Comparison, percentile: Percentile) -> NoiseFloor:
        """From a comparison of a file with itself."""
        return cls(
            percentile=percentile,
            ratio_interval=twice.ratio_interval(percentile),
            rounds=twice.undisturbed_rounds,
        )

    @property
    def share(self) -> float:
        """The largest difference in the interval, as a share of the latency."""
        return max(self.ratio_interval.high - 1.0, 1.0 - self.ratio_interval.low)
