"""What is trained, in one training or in several whose weights are averaged.

Trainings that begin at the same weights with the same zeros and differ in the order of their rows
end in one valley: the mean of their weights has the same zeros, and is often better than each.
Several rounds, each from the mean of the one before, prune by that mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autosparse.calibration import ActivationGrid
from autosparse.datasets import Dataset
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import ModelGraph
from autosparse.recovery.checkpoint import State
from autosparse.recovery.fine_tune import FineTune
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.recovery import Recovery
from autosparse.recovery.schedules import cubic, thinned
from autosparse.recovery.student import Student
from autosparse.recovery.training import CurvePoint, Outcome, Training
from autosparse.recovery.training_data import TrainingData

# Time for the means, as a share of one training's.
_FOR_MEANS = 0.2
Weights = Mapping[str, CompressedWeight]
Watch = Callable[[CurvePoint], None]


@dataclass(frozen=True)
class Subject:
    """What is trained, and by which recovery."""

    graph: ModelGraph
    """The dense model, which is the teacher."""
    levels: Mapping[str, Level]
    """Layer name -> its level."""
    weights: Weights
    """Layer name -> compressed weight, where the level has one."""
    recovery: Recovery
    grids: Sequence[ActivationGrid] = ()
    """Which activations are rounded, and how."""

    def student(self) -> Student:
        """At its start."""
        return Student(self.graph, self.levels, self.weights, self.recovery, self.grids)


def train(
    subject: Subject,
    rows: Dataset,
    plan: TrainingPlan,
    checkpoint: Path | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Train a subject as its recovery wants it.

    Args:
        subject: what.
        rows: to learn from.
        plan: how long and how, of all trainings together.
        checkpoint: file to go on from, and to write to; of several trainings, each has its own
            beside it. None to keep nothing.
        watch: is called with every point of the curve.

    Raises:
        CandidateError: nothing of use came of it.
        StorageError: a checkpoint cannot be written.
    """
    if subject.recovery.rounds * subject.recovery.members > 1:
        return _Averaging(subject, rows, plan, checkpoint, watch).run()
    data = TrainingData(rows, plan.batch_size, plan.seed)
    return Training(subject.graph, subject.student(), data, plan, checkpoint, watch).run()


def mean_state(states: Sequence[State]) -> State:
    """The mean of what students have learned; what is no number is the first one's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if values.is_floating_point()
        else values
        for name, values in states[0].items()
    }


@dataclass
class _Averaging:
    """Rounds of trainings that are averaged."""

    subject: Subject
    rows: Dataset
    plan: TrainingPlan
    checkpoint: Path | None
    watch: Watch | None

    def run(self) -> Outcome:
        """All rounds; what is given back is the last one's."""
        recovery = self.subject.recovery
        weights = self._first_weights()
        curve: list[CurvePoint] = []
        files: list[Path] = []
        done: list[Outcome] = []
        for number in range(recovery.rounds):
            subject = self._in_round(number, weights)
            done.append(self._round(subject, number, curve, files))
            weights = done[-1].weights
        for file in files:
            file.unlink(missing_ok=True)
        return replace(
            done[-1], curve=tuple(curve), before=done[0].before, steps=curve[-1].step,
            seconds=curve[-1].seconds,
        )  # fmt: skip

    def _first_weights(self) -> Weights:
        """Those of the subject; from dense weights, those of layers without zeros only."""
        given, levels = self.subject.weights, self.subject.levels
        if self.subject.recovery.start == "compressed":
            return given
        return {name: weight for name, weight in given.items() if levels[name].sparsity == 0}

    def _in_round(self, number: int, weights: Weights) -> Subject:
        """The zeros of a round are those of the level, or on the way there, at fixed places."""
        share = cubic((number + 1) / self.subject.recovery.rounds, final=1.0)
        levels = {
            name: level.model_copy(update={"pattern": thinned(level.pattern, share)})
            for name, level in self.subject.levels.items()
        }
        return replace(self.subject, levels=levels, weights=weights, recovery=FineTune())

    def _round(
        self, subject: Subject, number: int, curve: list[CurvePoint], files: list[Path]
    ) -> Outcome:
        """Some trainings from the same start; their mean, or the best of them where that is better.

        Every training's points are added to the curve, and its checkpoint to the files.
        """
        outcomes: list[Outcome] = []
        states: list[State] = []
        for member in range(self.subject.recovery.members):
            order = number * self.subject.recovery.members + member
            file = self._file(order)
            training = self._training(subject, order, curve, file)
            outcomes.append(training.run())
            _extend(curve, outcomes[-1].curve)
            states.append(training.state())
            files.extend(_given(file))
        weights, after = training.conclude(mean_state(states))
        best = min(outcomes, key=lambda outcome: outcome.after)
        chosen = replace(best, weights=weights, after=after) if after <= best.after else best
        return replace(chosen, before=outcomes[0].before, end=outcomes[-1].end)

    def _training(
        self, subject: Subject, order: int, curve: Sequence[CurvePoint], file: Path | None
    ) -> Training:
        """One training: its share of the whole, on the rows in an order of its own."""
        shares = self.subject.recovery.rounds * self.subject.recovery.members
        whole = self.plan
        spent = curve[-1].seconds if curve else 0.0
        plan = whole.model_copy(
            update={
                # the means take some of the time, too
                "seconds": max(whole.seconds - spent, 1.0) / (shares - order + _FOR_MEANS),
                "steps": None if whole.steps is None else max(whole.steps // shares, 1),
                "evaluations": max(whole.evaluations // shares, 2),
            }
        )
        data = TrainingData(self.rows, plan.batch_size, plan.seed, order)
        watch = None if self.watch is None else _behind(curve, self.watch)
        return Training(subject.graph, subject.student(), data, plan, file, watch)

    def _file(self, order: int) -> Path | None:
        if self.checkpoint is None:
            return None
        return self.checkpoint.with_name(f"{self.checkpoint.stem}-{order}{self.checkpoint.suffix}")


def _given(file: Path | None) -> Iterable[Path]:
    return () if file is None else (file,)


def _behind(curve: Sequence[CurvePoint], watch: Watch) -> Watch:
    """Watch points as if the training went on where the curve ends."""
    return lambda point: watch(_later(curve, point))


def _later(curve: Sequence[CurvePoint], point: CurvePoint) -> CurvePoint:
    if not curve:
        return point
    return replace(
        point, step=curve[-1].step + point.step, seconds=curve[-1].seconds + point.seconds
    )


def _extend(curve: list[CurvePoint], points: Sequence[CurvePoint]) -> None:
    curve.extend([_later(curve, point) for point in points])
