"""What a layer's inputs looked like, in the order of its weight matrix's columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerStatistics:
    """Sums over every input row that the layer multiplied with: one row per output position.

    The columns follow the weight matrix: K, in the order kh, kw, Cin for a convolution.
    """

    rows: int = 0
    """Input rows that were summed."""
    input_norms: Floats | None = None
    """(groups, K): L2 norm of every column over all rows."""
    hessian: Floats | None = None
    """(groups, K, K): sum of outer products of the rows, divided by their number."""


NO_STATISTICS = LayerStatistics()
