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
    `integers * steps` to the bit.
    """

    values: FloatMatrix
    integers: npt.NDArray[np.int8] | None = None
    """(output channels, K), symmetric around zero."""
    scales: npt.NDArray[np.float32] | None = None
    """One step of the integer grid for every channel, (output channels,), or for every block of
    consecutive weights along K, (output channels, blocks)."""
    bias: npt.NDArray[np.float32] | None = None
    """(output channels,) where the method changed the bias too; None keeps the layer's own."""

    def __post_init__(self) -> None:
        if (self.integers is None) != (self.scales is None):
            raise AutoSparseError("integers and scales come together or not at all")
        if self.scales is not None and self.scales.ndim == 2:
            columns, blocks = self.values.shape[1], self.scales.shape[1]
            if blocks == 0 or columns % blocks:
                raise AutoSparseError(f"{columns} columns do not split into {blocks} equal blocks")

    @property
    def block(self) -> int | None:
        """Consecutive weights along K that share a step; None where a whole channel does."""
        if self.scales is None or self.scales.ndim == 1:
            return None
        return int(self.values.shape[1] // self.scales.shape[1])

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
        blocks = 1 if scales.ndim == 1 else scales.shape[1]
        # as (channels, blocks, weights of a block), so that every block meets its own step
        channels, columns = integers.shape
        split = integers.astype(np.float32).reshape(channels, blocks, columns // max(blocks, 1))
        values = (split * scales.reshape(channels, blocks, 1)).reshape(channels, columns)
        return cls(values=values, integers=integers, scales=scales, bias=bias)
