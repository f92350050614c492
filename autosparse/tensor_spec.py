"""Name, type and shape of what goes into a model and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and shape of a graph input or output.

    A dimension is an int where the model fixes it, or a name (possibly empty) where it is free.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        dims = ", ".join(str(dim) or "?" for dim in self.shape)
        return f"{self.name}: {self.dtype} ({dims})"
