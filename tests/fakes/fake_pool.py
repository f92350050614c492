"""A pool that treats kits and tasks as other processes would, and takes them in any order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cloudpickle

from autosparse.errors import CandidateError
from autosparse.pipeline.pool import A, K, Task, attempt


@dataclass
class FakePool:
    """Implements `Pool`: kits and tasks are pickled, the order is random."""

    workers: int
    sees_files: bool = True
    asked: list[str] = field(default_factory=list)
    """Kind of every task that was run."""
    most_at_once: int = 0
    """Largest number of tasks that were handed over together."""

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        sent = cloudpickle.dumps(kit if self.sees_files else kit.loaded())
        kits: list[K] = [
            cloudpickle.loads(sent).at(Path(kit.files) / f"worker-{n}") for n in range(self.workers)
        ]
        given = list(tasks)
        self.most_at_once = max(self.most_at_once, len(given))
        answers: dict[int, A | CandidateError] = {}
        order = list(range(len(given)))
        random.Random(len(self.asked)).shuffle(order)
        for number in order:
            task: Task[K, A] = cloudpickle.loads(cloudpickle.dumps(given[number]))
            self.asked.append(type(task).__name__)
            worker = kits[number % self.workers]
            answer = attempt(task, worker)
            answers[number] = cloudpickle.loads(cloudpickle.dumps(answer))
        return [answers[number] for number in range(len(given))]
