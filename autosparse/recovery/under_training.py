"""Whether a training ended too early: its loss was still falling.

Source: seed TR10, Kuznedelev et al. 2023, "Accurate Neural Network Pruning Requires Rethinking
Sparse Optimization" (arXiv:2308.02060): sparse networks that look as if they had lost capacity are
mostly under-trained, and their training loss tells so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Quarters of the curve with fewer points than this are noise.
_FEWEST_POINTS = 3


def still_falling(losses: Sequence[float]) -> float:
    """By what share the training loss fell from the third quarter of a training to the last one.

    Args:
        losses: mean training losses, evenly over the training; what is no number is left out.

    Returns:
        Positive where it fell; 0 where there are too few points to tell.
    """
    known = [loss for loss in losses if math.isfinite(loss)]
    quarter = len(known) // 4
    if quarter < _FEWEST_POINTS:
        return 0.0
    last, before = known[-quarter:], known[-2 * quarter : -quarter]
    return 1.0 - sum(last) / max(sum(before), 1e-12)
