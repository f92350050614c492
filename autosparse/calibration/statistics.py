"""What a layer's inputs looked like, in the order of its weight matrix's columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerStatistics:
    """Sums over every input row that the layer multiplied with: one row per output position.

    The columns follow the weight matrix: K, in the order kh, kw, Cin for a convolution. Where
    only a sample of the rows was summed, the sums are scaled up to all of them.
    """

    rows: int = 0
    """Input rows that the layer multiplied with."""
    input_norms: Floats | None = None
    """(groups, K): L2 norm of every column over all rows."""
    hessian: Floats | None = None
    """(groups, K, K): sum of outer products of the rows, divided by their number."""
    input_means: Floats | None = None
    """(groups, K): mean of every column over all rows."""
    gradient_norms: Floats | None = None
    """(output channels, K): root mean square of the gradient of every weight."""
    row_gradients: Floats | None = None
    """(rows of the data, output channels, K): gradients of the weights, row by row."""


NO_STATISTICS = LayerStatistics()
