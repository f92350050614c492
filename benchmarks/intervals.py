"""Means of a few seeds or draws, with the interval that so few allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# 97.5th percentile of Student's t, by degrees of freedom
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}


def interval_text(values: Sequence[float], each: str = "seed") -> str:
    """The mean with a 95 % interval by Student's t, of two to five values.

    Args:
        values: one or more.
        each: what one of them is.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}, one {each}"
    half = _T[len(values) - 1] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f}), {len(values)} {each}s"
