"""Looks at the rows held out take a small share of the time, and are all at the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autosparse.model_graph import ModelGraph
from autosparse.recovery import RECOVERIES, looks
from autosparse.recovery.fine_tune import FineTune
from autosparse.recovery.looks import HeldOut, Looks, affordable_looks
from autosparse.recovery.training import CurvePoint
from autosparse.recovery.training_data import TrainingData
from tests.recovery.lessons import QUICK, lesson, rows_of, student_of

LEVEL = "unstructured@0.8:fp32"
_BATCHES = 7  # of 3 rows each, of the 20 that are held out


@pytest.mark.parametrize(
    ("of_a_batch", "expected"),
    [
        # 60 of 600 seconds: 8 batches in 20 looks, and 3 times beside them
        (0.01, Looks(8, 20)),
        (59.99 / 184, Looks(8, 20)),
        (59.99 / 136, Looks(8, 14)),  # rarer
        (59.99 / 75, Looks(5, 12)),  # fewer rows
        (59.99 / 15, Looks(1, 12)),
        (59.99 / 5, Looks(1, 2)),
        (1000.0, Looks(1, 1)),  # the end is looked at in any case
    ],
)
def test_what_can_be_afforded_by_hand(of_a_batch: float, expected: Looks) -> None:
    assert affordable_looks(600.0, of_a_batch, batches=8, times=20) == expected


def test_rows_that_are_settled_stay() -> None:
    found = affordable_looks(600.0, 59.99 / 40, batches=8, times=20, is_settled=True)
    assert found == Looks(8, 2)


@pytest.mark.parametrize("of_a_batch", [0.02, 0.1, 0.7, 3.0])
def test_all_of_them_keep_to_their_share(of_a_batch: float) -> None:
    found = affordable_looks(600.0, of_a_batch, batches=40, times=20)
    assert found.batches * (found.times + 3) * of_a_batch <= 0.1 * 600.0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that an answer to a batch takes, as far as anybody asks."""
    seconds = [60 / 30]  # two batches of the seven can be afforded twelve times
    monkeypatch.setattr(looks, "_seconds_of", lambda run: seconds[0])
    return seconds


def test_slow_looks_are_at_fewer_rows_and_always_the_same(residual: ModelGraph) -> None:
    data = TrainingData(rows_of(), 3, 0)
    asked: list[Tensor] = []
    student = student_of(residual, LEVEL, FineTune())

    def teach(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        asked.append(inputs["image"])
        return {"logits": torch.zeros(len(inputs["image"]), 10)}

    watched = HeldOut(student, data, QUICK, teach, Looks(2, 4))
    expected = [rows.inputs["image"] for rows in data.held_out()[:2]]
    assert len(asked) == 2
    assert all(torch.equal(*both) for both in zip(asked, expected, strict=True))
    assert watched.divergence(1.0) == watched.divergence(1.0)


class Killed(Exception):  # noqa: N818 (it is no error)
    """What ends a training in between."""


def test_a_resumed_training_keeps_to_its_rows(
    residual: ModelGraph, tmp_path: Path, slow: list[float]
) -> None:
    """Where the machine has become faster meanwhile, other rows would be affordable."""
    asked: dict[str, Any] = {"batch_size": 3, "evaluations": 20, "patience": 100}
    undisturbed = lesson(residual, LEVEL, FineTune(), **asked)
    assert undisturbed.held_out_batches == 2
    assert len(undisturbed.curve) == 12
    seen: list[CurvePoint] = []

    def killed(point: CurvePoint) -> None:
        seen.append(point)
        if len(seen) == 3:
            raise Killed

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        lesson(residual, LEVEL, FineTune(), checkpoint=path, watch=killed, **asked)
    slow[0] = 1e-6
    resumed = lesson(residual, LEVEL, FineTune(), checkpoint=path, **asked)
    assert resumed.held_out_batches == 2
    assert [(p.step, p.held_out) for p in resumed.curve] == [
        (p.step, p.held_out) for p in undisturbed.curve
    ]
    assert resumed.after == undisturbed.after
    assert lesson(residual, LEVEL, FineTune(), batch_size=3).held_out_batches == _BATCHES


def test_trainings_that_are_averaged_are_watched_by_the_same_rows(
    residual: ModelGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all of them: members may be trained at once, and none can wait for another's choice."""
    taken = iter([1.0, 0.3, 0.1, 0.1])
    monkeypatch.setattr(looks, "_seconds_of", lambda run: next(taken))
    chosen: list[int] = []
    plain = HeldOut.__init__

    def noted(self: HeldOut, *given: object) -> None:
        plain(self, *given)  # type: ignore[arg-type]
        chosen.append(self.looks.batches)

    monkeypatch.setattr(HeldOut, "__init__", noted)
    lesson(residual, LEVEL, RECOVERIES.load("sparse_soup"), batch_size=3)
    assert chosen == [_BATCHES] * 4  # three members, and their mean
