"""LAMP: a magnitude score that layers can be compared by.

Source: Lee et al. 2021, Layer-adaptive sparsity for the Magnitude-based Pruning, arXiv:2010.07611
(seed LAMP). A weight's score is its square over the sum of all squares that are not smaller in its
layer: what removing it, after all smaller ones, does to the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def lamp_scores_of(weight: npt.NDArray[np.float32], sparsities: Sequence[float]) -> list[float]:
    """Score of the largest weight that must go for each sparsity; 0 where none must.

    Args:
        weight: of one layer, any shape.
        sparsities: fractions of zeros, in [0, 1).
    """
    squares = np.sort(np.square(weight, dtype=np.float64).ravel())
    not_smaller = np.cumsum(squares[::-1])[::-1]
    found = []
    for sparsity in sparsities:
        gone = int(sparsity * len(squares))
        largest = gone - 1
        is_none = gone == 0 or not_smaller[largest] == 0
        found.append(0.0 if is_none else float(squares[largest] / not_smaller[largest]))
    return found
