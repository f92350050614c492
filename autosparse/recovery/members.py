"""Members: trainings of the same start in other orders of rows, which a mean is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autosparse.calibration import ActivationGrid
from autosparse.datasets import Dataset
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import ModelGraph
from autosparse.recovery.checkpoint import State
from autosparse.recovery.clock import Clock
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.recovery import Recovery
from autosparse.recovery.row_lengths import row_lengths
from autosparse.recovery.student import Student
from autosparse.recovery.training import CurvePoint, Outcome, Training
from autosparse.recovery.training_data import TrainingData, learned_inputs

Weights = Mapping[str, CompressedWeight]
Watch = Callable[[CurvePoint], None]
Stop = Callable[[], bool]


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


@dataclass(frozen=True)
class Trained:
    """What a member came to."""

    outcome: Outcome
    state: State
    """Of its student, at the end."""


@dataclass(frozen=True)
class Member:
    """One of several trainings of a subject."""

    order: int
    """Number of the order in which it sees the rows."""
    plan: TrainingPlan
    """Its share of the whole."""
    checkpoint: Path | None = None
    """File to go on from, and to write to; None to keep nothing."""
    watch: Watch | None = None
    """Is called with points of its curve."""
    stop: Stop | None = None
    """Whether it is to end now, with the best that it has come to."""

    def training(self, subject: Subject, rows: Dataset) -> Training:
        """At its start, which all that is needed for it belongs to."""
        clock = Clock(stop=self.stop)
        lengths = row_lengths(subject.graph, learned_inputs(rows))
        data = TrainingData(rows, self.plan.batch_size, self.plan.seed, self.order, lengths)
        student = subject.student()
        return Training(subject.graph, student, data, self.plan, self.checkpoint, self.watch, clock)

    def train(self, subject: Subject, rows: Dataset) -> Trained:
        """Train it.

        Raises:
            CandidateError: nothing of use came of it.
            StorageError: the checkpoint cannot be written.
        """
        training = self.training(subject, rows)
        return Trained(training.run(), training.state())


class Trainers(Protocol):
    """What trains the members of a round."""

    @property
    def at_once(self) -> int:
        """How many are trained at the same time."""

    def run(
        self,
        subject: Subject,
        rows: Dataset,
        members: Iterable[Member],
        done: Callable[[Member, Trained], None],
    ) -> None:
        """Train them all.

        Args:
            subject: what is trained.
            rows: to learn from.
            members: drawn when their turn comes.
            done: told of each, in their order.

        Raises:
            CandidateError: nothing of use came of one of them.
            StorageError: a checkpoint cannot be written.
        """


class OneByOne:
    """Implements `Trainers` in this process."""

    at_once = 1

    def run(
        self,
        subject: Subject,
        rows: Dataset,
        members: Iterable[Member],
        done: Callable[[Member, Trained], None],
    ) -> None:
        """See `Trainers.run`."""
        for member in members:
            done(member, member.train(subject, rows))
