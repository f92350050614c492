"""bf16: rounding by hand and by torch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from autosparse.levels.bf16 import bf16_bits, from_bf16


def test_ties_go_to_the_even_neighbour() -> None:
    between = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 1 + 2**-8 + 2**-20], np.float32)
    assert bf16_bits(between).tolist() == [0x3F80, 0x3F82, 0xBF80, 0x3F81]


def test_the_ends_of_the_range() -> None:
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40], np.float32)
    back = from_bf16(bf16_bits(ends))
    expected = torch.tensor(ends).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(back, expected)
    assert np.signbit(back[1])
    # a NaN whose digits are all in the lower half
    hidden = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(from_bf16(bf16_bits(hidden))).all()


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=50))
def test_it_is_what_torch_makes(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    expected = torch.tensor(values).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(from_bf16(bf16_bits(values)), expected)
