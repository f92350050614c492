"""Drops that are counted in rows: how large one may be, also where hardly a row differs.

Rows that are drawn again and again tell nothing but what was seen: where both models are right on
the same rows, every draw says that nothing is lost, be it of five rows. The score interval asks
which drops would make what was seen improbable. Of n rows without any difference it leaves
z^2 / (n + z^2), as Wilson's interval does, and a little more than the rule of three.

Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions for
the paired-sample design", Statistics in Medicine 17:891-908.
"""

from __future__ import annotations

import math

import numpy as np

from autosparse.evaluation.metrics import BUILT_IN, Floats, Metric

# of the normal distribution, for 95 % in the middle
_Z = 1.959963984540054
_HALVINGS = 60


def counts_rows(metric: Metric, theirs: Floats, mine: Floats) -> bool:
    """Whether a metric is a share of rows: the mean of scores that reach from 0 to 1.

    Of a user's own metric that is known only where every score is 0 or 1.

    Args:
        metric: what gave the scores.
        theirs: (rows,) the dense model's.
        mine: (rows,) the candidate's.
    """
    scores = np.concatenate([theirs, mine])
    inside = bool(((scores >= 0) & (scores <= 1)).all())
    own = metric.name not in BUILT_IN and bool(np.isin(scores, (0.0, 1.0)).all())
    return metric.is_mean and inside and (metric.in_unit_interval or own)


def score_interval(lost: float, won: float, rows: int) -> tuple[float, float]:
    """95 % interval of the drop (lost - won) / rows.

    Args:
        lost: rows that only the dense model has right. Parts of rows, for scores between 0 and 1,
            vary less than whole ones: the interval is rather too wide then.
        won: rows that only the candidate has right.
        rows: all rows.
    """
    return -_upper(won, lost, rows), _upper(lost, won, rows)


def rows_needed(drop: float) -> int:
    """Rows that show a drop to be smaller than this, where none of them is answered otherwise."""
    return math.ceil(_Z**2 * (1.0 / drop - 1.0))


def _upper(lost: float, won: float, rows: int) -> float:
    """The largest drop that what was seen does not contradict."""
    low, high = (lost - won) / rows, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        deviation = math.sqrt(rows * _variance(lost, won, rows, middle))
        if lost - won - rows * middle + _Z * deviation > 0:
            low = middle
        else:
            high = middle
    return high


def _variance(lost: float, won: float, rows: int, drop: float) -> float:
    """Of one row's loss, were the drop this: the share of rows won is then the most likely one."""
    linear = (2 * rows - lost + won) * drop - lost - won
    squared = linear**2 + 8 * rows * won * drop * (1.0 - drop)
    share = (math.sqrt(max(squared, 0.0)) - linear) / (4 * rows)
    return max(2 * share + drop * (1.0 - drop), 0.0)
