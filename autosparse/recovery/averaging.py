"""What is trained, in one training or in several whose weights are averaged.

Trainings that begin at the same weights with the same zeros and differ in the order of their rows
end in one valley: the mean of their weights has the same zeros, and is often better than each.
Several rounds, each from the mean of the one before, prune by that mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from autosparse.datasets import Dataset
from autosparse.recovery.checkpoint import State
from autosparse.recovery.clock import Clock
from autosparse.recovery.fine_tune import FineTune
from autosparse.recovery.members import (
    Member,
    OneByOne,
    Stop,
    Subject,
    Trained,
    Trainers,
    Watch,
    Weights,
)
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.schedules import cubic, thinned
from autosparse.recovery.training import CurvePoint, Outcome, came_to_nothing
from autosparse.recovery.training_data import MOST_HELD_OUT

# Time for a mean, as a share of one training's.
_FOR_A_MEAN = 0.2


def train(
    subject: Subject,
    rows: Dataset,
    plan: TrainingPlan,
    checkpoint: Path | None = None,
    watch: Watch | None = None,
    trainers: Trainers | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Train a subject as its recovery wants it.

    Args:
        subject: what.
        rows: to learn from.
        plan: how long and how, of all trainings together.
        checkpoint: file to go on from, and to write to; of several trainings, each has its own
            beside it. None to keep nothing.
        watch: is called with every point of the curve, or with the last ones of trainings that
            happen elsewhere.
        trainers: what trains the members of an average; None for one after the other, here. Where
            steps end them, that makes no difference to what they come to.
        stop: whether to end now, with the best that there is; trainings elsewhere go on to their
            ends.

    Raises:
        CandidateError: nothing of use came of it.
        StorageError: a checkpoint cannot be written.
    """
    if subject.recovery.rounds * subject.recovery.members > 1:
        trainers = trainers or OneByOne()
        return _Averaging(subject, rows, plan, checkpoint, watch, trainers, stop).run()
    return Member(0, plan, checkpoint, watch, stop).training(subject, rows).run()


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
    trainers: Trainers
    stop: Stop | None
    curve: list[CurvePoint] = field(default_factory=list)
    """Of all members, as if they had been trained one after the other."""
    done: int = 0
    """Members that were trained."""
    spent: float = 0.0
    """Seconds of the members, and of the means."""

    def run(self) -> Outcome:
        """All rounds; what is given back is the last one's."""
        recovery = self.subject.recovery
        weights = self._first_weights()
        outcomes: list[Outcome] = []
        for number in range(recovery.rounds):
            outcomes.append(self._round(self._in_round(number, weights), number))
            weights = outcomes[-1].weights
            if outcomes[-1].end == "asked":
                return self._ended_early(outcomes)
        for order in range(recovery.rounds * recovery.members):
            file = self._file(order)
            if file is not None:
                file.unlink(missing_ok=True)
        return self._together(outcomes)

    def _ended_early(self, outcomes: Sequence[Outcome]) -> Outcome:
        """What there is, if it has the zeros of its levels; checkpoints stay, to be gone on from.

        Raises:
            CandidateError: it has not.
        """
        if len(outcomes) < self.subject.recovery.rounds:
            raise came_to_nothing("asked")
        return self._together(outcomes)

    def _together(self, outcomes: Sequence[Outcome]) -> Outcome:
        """The last round's outcome, as that of one training."""
        return replace(
            outcomes[-1], curve=tuple(self.curve), before=outcomes[0].before,
            steps=self.curve[-1].step, seconds=self.spent,
            begun_anew=any(outcome.begun_anew for outcome in outcomes),
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

    def _round(self, subject: Subject, number: int) -> Outcome:
        """Some trainings from the same start; their mean, or the best of them if that is better."""
        trained: list[Trained] = []

        def take(member: Member, found: Trained) -> None:
            trained.append(found)
            self.curve.extend([self._later(point) for point in found.outcome.curve])
            self.spent += self._pace * found.outcome.seconds
            self.done += 1

        first = number * self.subject.recovery.members
        self.trainers.run(subject, self.rows, self._members(first), take)
        outcomes = [found.outcome for found in trained]
        clock = Clock()
        last = replace(self._member(first + len(trained) - 1), checkpoint=None, watch=None)
        mean = mean_state([found.state for found in trained])
        weights, after = last.training(subject, self.rows).conclude(mean)
        self.spent += clock.elapsed
        best = min(outcomes, key=lambda outcome: outcome.after)
        chosen = replace(best, weights=weights, after=after) if after <= best.after else best
        is_whole = len(trained) == self.subject.recovery.members
        end = outcomes[-1].end if is_whole else "asked"
        begun_anew = any(outcome.begun_anew for outcome in outcomes)
        return replace(chosen, before=outcomes[0].before, end=end, begun_anew=begun_anew)

    def _members(self, first: int) -> Iterator[Member]:
        """Those of one round, each made when its turn comes; one at least, whoever cannot wait."""
        for order in range(first, first + self.subject.recovery.members):
            if order > first and self.stop is not None and self.stop():
                return
            yield self._member(order)

    def _member(self, order: int) -> Member:
        """One training: its share of the whole, on the rows in an order of its own."""
        recovery, whole = self.subject.recovery, self.plan
        shares = recovery.rounds * recovery.members
        means = _FOR_A_MEAN * (recovery.rounds - self.done // recovery.members)
        plan = whole.model_copy(
            update={
                "seconds": max(whole.seconds - self.spent, 1.0) / (self._turns_left + means),
                "steps": None if whole.steps is None else max(whole.steps // shares, 1),
                "evaluations": max(whole.evaluations // shares, 2),
                # all rows held out: members are compared with each other, and with their mean
                "held_out_batches": MOST_HELD_OUT,
            }
        )
        watch = self.watch
        later = None if watch is None else lambda point: watch(self._later(point))
        return Member(order, plan, self._file(order), later, self.stop)

    @property
    def _turns_left(self) -> int:
        """How often one or several members are still trained at once; one, when all are done."""
        recovery, at_once = self.subject.recovery, self.trainers.at_once
        rounds, members = divmod(self.done, recovery.members)
        done = rounds * self._turns_of_a_round + math.ceil(members / at_once)
        return max(recovery.rounds * self._turns_of_a_round - done, 1)

    @property
    def _turns_of_a_round(self) -> int:
        return math.ceil(self.subject.recovery.members / self.trainers.at_once)

    def _later(self, point: CurvePoint) -> CurvePoint:
        """A point as if its training went on where the curve ends.

        Members that are trained at once take as long together as their turns do.
        """
        before = self.curve[-1].step if self.curve else 0
        return replace(
            point, step=point.step + before, seconds=self._pace * point.seconds + self.spent
        )

    @property
    def _pace(self) -> float:
        """Of a member's time, its part of that of a round."""
        return self._turns_of_a_round / self.subject.recovery.members

    def _file(self, order: int) -> Path | None:
        if self.checkpoint is None:
            return None
        return self.checkpoint.with_name(f"{self.checkpoint.stem}-{order}{self.checkpoint.suffix}")
