"""A layer's weight at one level: what a method makes and a backend lowers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosparse.errors import AutoSparseError

FloatMatrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CompressedWeight:
    """The weight matrix (output channels, K) of one layer at one level.

    `values` is always what the layer multiplies with; for an integer level it equals
    `integers * scales[:, None]` to the bit.
    """

    values: FloatMatrix
    integers: npt.NDArray[np.int8] | None = None
    """(output channels, K), symmetric around zero."""
    scales: npt.NDArray[np.float32] | None = None
    """(output channels,): one step of the integer grid."""
    bias: npt.NDArray[np.float32] | None = None
    """(output channels,) where the method changed the bias too; None keeps the layer's own."""

    def __post_init__(self) -> None:
        if (self.integers is None) != (self.scales is None):
            raise AutoSparseError("integers and scales come together or not at all")

    @property
    def sparsity(self) -> float:
        """Counted fraction of zeros."""
        return 1.0 - np.count_nonzero(self.values) / max(self.values.size, 1)

    def save(self, path: Path) -> None:
        """Write one compressed npz; integers are kept in place of the values they give."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        if self.integers is not None and self.scales is not None:
            arrays.update(integers=self.integers, scales=self.scales)
        else:
            arrays["values"] = self.values
        if self.bias is not None:
            arrays["bias"] = self.bias
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> CompressedWeight:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            bias = arrays.get("bias", None)
            if "values" in arrays:
                return cls(values=arrays["values"], bias=bias)
            return cls.quantized(arrays["integers"], arrays["scales"], bias=bias)

    @classmethod
    def quantized(
        cls,
        integers: npt.NDArray[np.int8],
        scales: npt.NDArray[np.float32],
        *,
        bias: npt.NDArray[np.float32] | None = None,
    ) -> CompressedWeight:
        """Build an integer weight, its values derived from the grid."""
        values = integers.astype(np.float32) * scales[:, None]
        return cls(values=values, integers=integers, scales=scales, bias=bias)
