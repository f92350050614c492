"""Members of an average as tasks of a pool, so that workers train them at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from autosparse.datasets import Dataset
from autosparse.model_graph.torch_executor import failures_told
from autosparse.pipeline.pool import Pool, expected
from autosparse.recovery.members import Member, Subject, Trained

# Loading a kit, building the student, and the evaluations at both ends.
_GRACE_SECONDS = 900.0
_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class MembersKit:
    """What the members of one round share; implements `autosparse.pipeline.pool.Kit`."""

    subject: Subject
    rows: Dataset
    files: Path

    def at(self, files: Path) -> MembersKit:
        """See `Kit.at`."""
        return replace(self, files=files)

    def loaded(self) -> MembersKit:
        """See `Kit.loaded`: all of it is in memory."""
        return self


@dataclass(frozen=True)
class TrainMember:
    """A task: one member. Begun again after a kill, it goes on from its checkpoint."""

    member: Member
    until: float
    """When it is to be done, in seconds since 1970: a kill costs steps and not time."""

    @property
    def limit_seconds(self) -> float:
        """See `autosparse.pipeline.pool.LongTask`."""
        return self.member.plan.seconds + _GRACE_SECONDS

    def __call__(self, kit: MembersKit, /) -> Trained:
        """Train it in the time that is left.

        Raises:
            CandidateError: nothing of use came of it, or torch failed.
        """
        plan = self.member.plan
        left = max(min(plan.seconds, self.until - time.time()), _LEAST_SECONDS)
        plan = plan.model_copy(update={"seconds": left})
        with failures_told():
            return replace(self.member, plan=plan).train(kit.subject, kit.rows)


@dataclass(frozen=True)
class PooledTrainers:
    """Implements `autosparse.recovery.members.Trainers` on the workers of a pool."""

    pool: Pool
    at_once: int
    files: Path
    """Where a kit's scratch directories lie."""

    def run(
        self,
        subject: Subject,
        rows: Dataset,
        members: Iterable[Member],
        done: Callable[[Member, Trained], None],
    ) -> None:
        """See `Trainers.run`. What watches a member is told of its end, and nothing ends it."""
        drawn: list[Member] = []

        def tasks() -> Iterator[TrainMember]:
            for member in members:
                drawn.append(member)
                kept = member.checkpoint if self.pool.sees_files else None
                yield TrainMember(
                    replace(member, checkpoint=kept, watch=None, stop=None),
                    until=time.time() + member.plan.seconds,
                )

        answers = self.pool.run(MembersKit(subject, rows, self.files), tasks())
        for member, answer in zip(drawn, answers, strict=True):
            trained = expected(answer)
            if member.watch is not None:
                member.watch(trained.outcome.curve[-1])
            done(member, trained)
