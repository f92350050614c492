"""Looks at the rows held out: how many rows, and how often, for a small share of a training's time.

All looks of a training are at the same rows, so that its states differ by what was learned and not
by what they were asked. Where looks would take long, they get rarer; where even a few looks at all
rows would, they are at some of the rows, drawn at random once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.recovery.distillation import Tensors, answer_loss, probability_outputs
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.student import Student
from autosparse.recovery.training_data import TrainingData

# Of a training's time, for all its looks together.
_SHARE = 0.1
# Fewer looks than these tell badly which state is best, and not at all whether the loss was still
# falling at the end; before that, fewer rows do better.
_FEWEST = 12
# The dense model's own answers, the look before the first step, and the one behind the last.
_BESIDE = 3


@dataclass(frozen=True)
class Looks:
    """What a training can afford."""

    batches: int
    """Of rows held out, in every look."""
    times: int
    """Looks while it trains."""


def affordable_looks(
    seconds: float, of_a_batch: float, *, batches: int, times: int, is_settled: bool = False
) -> Looks:
    """As much of what is asked for as fits into the share.

    Args:
        seconds: of the whole training.
        of_a_batch: what it takes the student to answer a batch.
        batches: of rows held out, more than 0.
        times: looks that are asked for.
        is_settled: whether the rows are, and only the looks may get fewer.
    """
    answers = int(min(_SHARE * seconds / max(of_a_batch, 1e-9), batches * (times + _BESIDE)))
    if not is_settled:
        fewest = min(times, _FEWEST) + _BESIDE
        batches = max(min(batches, answers // fewest), 1)
    return Looks(batches, max(min(times, answers // batches - _BESIDE), 1))


class HeldOut:
    """The rows that a training is watched by, and what the dense model answers to them.

    Args:
        student: what is trained.
        data: its rows.
        plan: how long and how.
        teach: inputs -> the dense model's answers.
        looks: what a training that is resumed chose; None to choose now.
    """

    def __init__(
        self,
        student: Student,
        data: TrainingData,
        plan: TrainingPlan,
        teach: Callable[[Mapping[str, Tensor]], Tensors],
        looks: Looks | None,
    ) -> None:
        self._student, self._logits = student, plan.logits
        first = data.held_out(1)[0].inputs
        student.eval()
        with torch.no_grad():
            self.seconds_of_a_batch = _seconds_of(lambda: student(first, 0.0))
        self.looks = looks or affordable_looks(
            plan.seconds, self.seconds_of_a_batch, times=plan.evaluations,
            batches=min(plan.held_out_batches or data.held_out_batches, data.held_out_batches),
            is_settled=plan.held_out_batches is not None,
        )  # fmt: skip
        chosen = data.held_out(self.looks.batches)
        self._taught = [(rows.inputs, teach(rows.inputs)) for rows in chosen]
        self.probabilities = probability_outputs(self._taught[0][1])
        """Outputs of the dense model that are probabilities."""

    @property
    def seconds_of_a_look(self) -> float:
        """What a look takes, about."""
        return self.looks.batches * self.seconds_of_a_batch

    def divergence(self, progress: float) -> float:
        """How far the student is from the dense model on these rows."""
        self._student.eval()
        with torch.no_grad():
            losses = [
                answer_loss(
                    self._student(inputs, progress),
                    taught,
                    logits=self._logits,
                    temperature=1.0,
                    probabilities=self.probabilities,
                )
                for inputs, taught in self._taught
            ]
        return float(torch.stack(losses).mean())


def _seconds_of(run: Callable[[], object]) -> float:
    """What something takes that has been done before."""
    run()
    begun = time.monotonic()
    run()
    return time.monotonic() - begun
