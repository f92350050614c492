"""bf16 is taken where it is measured to be faster, and finding out leaves nothing behind."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autosparse.model_graph import ModelGraph
from autosparse.recovery import arithmetic
from autosparse.recovery.activating import Activating
from autosparse.recovery.arithmetic import STEPS_TRIED, faster_arithmetic, in_arithmetic
from autosparse.recovery.fine_tune import FineTune
from tests.recovery.lessons import lesson

LEVEL = "unstructured@0.8:fp32"


class Clock:
    """One on which whatever happens in bf16 takes its own time."""

    def __init__(self, in_bf16: float) -> None:
        self.now, self.reads, self.in_bf16 = 0.0, 0, in_bf16

    def perf_counter(self) -> float:
        self.reads += 1
        self.now += self.in_bf16 if torch.is_autocast_enabled("cpu") else 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(in_bf16=0.5)
    monkeypatch.setattr(arithmetic, "time", SimpleNamespace(perf_counter=found.perf_counter))
    return found


def test_products_are_computed_in_the_arithmetic_that_is_asked_for() -> None:
    square = torch.ones(4, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with in_arithmetic(name):  # type: ignore[arg-type]
            assert (square @ square).dtype is dtype


@pytest.mark.parametrize(("taken", "chosen"), [(0.5, "bf16"), (0.9, "fp32"), (2.0, "fp32")])
def test_what_is_not_clearly_faster_is_not_worth_its_rounding(
    clock: Clock, taken: float, chosen: str
) -> None:
    clock.in_bf16 = taken
    steps: list[bool] = []
    assert faster_arithmetic(lambda: steps.append(torch.is_autocast_enabled("cpu"))) == chosen
    assert len(steps) == STEPS_TRIED
    assert sum(steps) == STEPS_TRIED / 2


def test_finding_out_changes_nothing_of_the_training(residual: ModelGraph, clock: Clock) -> None:
    """Norms and what a recovery has seen so far are as they were: the same weights, to the bit."""
    chosen = lesson(residual, LEVEL, Activating(), arithmetic="auto", steps=8)
    assert clock.reads == 2 * STEPS_TRIED
    asked = lesson(residual, LEVEL, Activating(), arithmetic="bf16", steps=8)
    assert (chosen.arithmetic, asked.arithmetic) == ("bf16", "bf16")
    plain = lesson(residual, LEVEL, Activating(), steps=8)
    for name, weight in asked.weights.items():
        assert np.array_equal(chosen.weights[name].values, weight.values)
    assert any(
        not np.array_equal(weight.values, asked.weights[name].values)
        for name, weight in plain.weights.items()
    )


def test_on_an_integer_grid_nothing_is_tried(residual: ModelGraph, clock: Clock) -> None:
    """bf16 is coarser than the grid."""
    found = lesson(residual, "block1x4@0.5:int8", FineTune(), arithmetic="auto", steps=4)
    assert (found.arithmetic, clock.reads) == ("fp32", 0)


def test_with_too_little_time_nothing_is_tried(residual: ModelGraph, clock: Clock) -> None:
    found = lesson(residual, LEVEL, FineTune(), arithmetic="auto", seconds=1e-3, steps=4)
    assert (found.arithmetic, clock.reads) == ("fp32", 0)
