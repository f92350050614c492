"""bf16: the upper half of a float32, which has its range and 8 of its 24 binary digits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def bf16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The nearest numbers, halves to even; a NaN stays one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)
    kept = np.where(np.isnan(values), quiet, rounded)
    return np.asarray(kept >> np.uint32(16), np.uint16)


def from_bf16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """What the bits stand for."""
    return np.asarray(bits.astype(np.uint32) << np.uint32(16), np.uint32).view(np.float32)
