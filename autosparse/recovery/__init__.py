"""What gives a compressed model back some of its quality, after its weights were chosen."""

from autosparse.recovery.statistics_correction import (
    Matching,
    Moments,
    StatisticsCorrection,
    channel_moments,
    corrected,
    matching,
)

__all__ = [
    "Matching",
    "Moments",
    "StatisticsCorrection",
    "channel_moments",
    "corrected",
    "matching",
]
