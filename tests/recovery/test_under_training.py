"""A loss that was still falling at the end is told from one that was not."""

from __future__ import annotations

import math

import pytest

from autosparse.recovery.under_training import still_falling


def test_by_hand() -> None:
    losses = [math.nan, 9.0, 9.0, 9.0, 8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    assert still_falling(losses) == pytest.approx(0.25)


@pytest.mark.checks("note on under-training")
def test_a_loss_that_has_settled_does_not_fall() -> None:
    falling = [math.exp(-step / 8) for step in range(20)]
    assert still_falling(falling) > 0.4
    assert still_falling([max(loss, 0.3) for loss in falling]) == pytest.approx(0.0)


def test_a_few_points_tell_nothing() -> None:
    assert still_falling([4.0, 3.0, 2.0, 1.0]) == 0.0
