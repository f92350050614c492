from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from autosparse.calibration import NO_STATISTICS
from autosparse.levels import Level
from autosparse.levels.masks import project
from autosparse.methods.magnitude import Magnitude
from autosparse.methods.spectrum import Spectrum, preserved, spectral_error
from autosparse.model_graph import Layer

LAYER = Layer("fc", "fc_node", "Gemm", "x", "y", "w", (24, 32), None, transposed=True)


def test_one_kept_weight_by_hand() -> None:
    # the error is [[a, 1], [1, 1]], and the kept weight 1 - a: it grows past its dense value, so
    # that the three ones that are missing weigh less
    weight = torch.ones(2, 2).double()
    kept = torch.tensor([[True, False], [False, False]])
    moved = preserved(weight, kept)
    assert not moved[~kept].any()
    a = 1 - float(moved[0, 0])
    # sum of fourth powers: (a^2 + 1)^2 + 2 (a + 1)^2 + 4, whose derivative by a is zero
    assert 4 * a * (a * a + 1) + 4 * (a + 1) == pytest.approx(0, abs=1e-9)


def test_what_is_kept_alone_in_its_row_and_column_stays() -> None:
    weight = torch.diag(torch.tensor([3.0, 2.0])).double()
    assert torch.equal(preserved(weight, weight != 0), weight)


@pytest.mark.checks("spectrum")
@pytest.mark.parametrize("level", ["unstructured@0.5:fp32", "unstructured@0.8:fp32", "2:4:fp32"])
def test_singular_values_are_kept_better_than_by_magnitude(level: str) -> None:
    draw = torch.Generator().manual_seed(0)
    smooth = torch.randn(24, 3, generator=draw) @ torch.randn(3, 32, generator=draw)
    weight = smooth + 0.5 * torch.randn(24, 32, generator=draw)
    ours, magnitudes = (
        torch.tensor(method.compress(LAYER, weight, Level.parse(level), NO_STATISTICS).values)
        for method in (Spectrum(), Magnitude())
    )
    assert torch.equal(ours != 0, magnitudes != 0)
    assert spectral_error(weight, ours) < 0.95 * spectral_error(weight, magnitudes)
    kept_values = [torch.linalg.svdvals(w)[:3] for w in (weight, ours, magnitudes)]
    assert (kept_values[1] - kept_values[0]).norm() < (kept_values[2] - kept_values[0]).norm()


def test_no_step_makes_the_error_larger() -> None:
    weight = torch.randn(12, 16, generator=torch.Generator().manual_seed(3)).double()
    kept = project(weight.abs(), Level.parse("2:4:fp32").pattern)
    powers = [
        float(torch.linalg.svdvals(weight - preserved(weight, kept, steps)).pow(4).sum())
        for steps in range(6)
    ]
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(powers))
    assert powers[-1] < powers[0]
