"""The dispatcher on simulated workers: order, windows, and whatever can befall a worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from autosparse.errors import CandidateError, HungError, NoMemoryError, WorkerError
from benchmarks.simulated_crew import Fate, SimulatedCrew
from workers.dispatcher import Died, Dispatcher, Ended, Joined, Patience


def uneven(task: int) -> Fate:
    """Later tasks are often shorter, so that they overtake."""
    return Fate(1.0 + (task * 7919) % 13)


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_answers_come_in_the_order_of_the_tasks(workers: int) -> None:
    crew = SimulatedCrew(workers, uneven)
    assert Dispatcher[int, int](crew).run(range(200)) == list(range(200))
    assert sorted(crew.attempts) == list(range(200))


def test_three_workers_take_a_third_of_the_time() -> None:
    alone, three = SimulatedCrew(1, uneven), SimulatedCrew(3, uneven)
    for crew in (alone, three):
        Dispatcher[int, int](crew).run(range(300))
    assert three.clock < alone.clock / 2.9


def test_a_task_is_drawn_when_a_worker_is_idle_and_not_before() -> None:
    """What tasks carry need not be in memory at once."""
    crew = SimulatedCrew(4, uneven)
    ahead = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            ahead.append(number - len(crew.attempts))
            yield number

    assert Dispatcher[int, int](crew).run(tasks()) == list(range(100))
    assert set(ahead) == {0}


def test_a_task_may_say_how_long_it_takes() -> None:
    """One that takes longer than the others may is let be; the others are not."""
    crew = SimulatedCrew(2, lambda task: Fate(2000.0))
    patience = Patience(task_seconds=900.0, attempts=2)
    dispatcher = Dispatcher[int, int](crew, patience, lambda task: 3000.0 if task == 1 else None)
    hung, long = dispatcher.run([0, 1])
    assert long == 1
    assert isinstance(hung, CandidateError)
    assert "did not answer within 900 s" in str(hung)
    assert crew.replaced == 2


def test_a_task_whose_worker_dies_is_tried_again() -> None:
    deaths = {5: 2, 11: 1}

    def fate(task: int) -> Fate:
        deaths[task] = deaths.get(task, 0) - 1
        return Fate(1.0, crashes=deaths[task] >= 0)

    crew = SimulatedCrew(3, fate)
    assert Dispatcher[int, int](crew).run(range(20)) == list(range(20))
    assert crew.replaced == 3
    assert crew.attempts.count(5) == 3
    assert crew.attempts.count(11) == 2


def test_a_task_that_ends_every_worker_is_marked_and_the_others_go_on() -> None:
    crew = SimulatedCrew(2, lambda task: Fate(1.0, crashes=task == 3))
    answers = Dispatcher[int, int](crew).run(range(8))
    assert [a for a in answers if not isinstance(a, CandidateError)] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(answers[3], CandidateError)
    assert "ended 3 worker processes: it crashed" in str(answers[3])
    # perhaps for want of memory, which a resumed job may have
    assert isinstance(answers[3], NoMemoryError)


def test_a_task_that_hangs_is_given_up_and_its_worker_replaced() -> None:
    crew = SimulatedCrew(2, lambda task: Fate(1e9 if task == 1 else 5.0))
    patience = Patience(task_seconds=60.0, attempts=2)
    answers = Dispatcher[int, int](crew, patience).run(range(10))
    assert isinstance(answers[1], CandidateError)
    assert "did not answer within 60 s" in str(answers[1])
    # memory had nothing to do with it, and another run would wait as long again
    assert isinstance(answers[1], HungError)
    assert not answers[1].retryable
    assert [a for a in answers if a != answers[1]] == [0, *range(2, 10)]
    assert crew.replaced == 2
    assert crew.clock < 200


@dataclass
class LateNews(SimulatedCrew):
    """When one worker is replaced, the others turn out to have died with it, a little later."""

    news: list[Ended[int]] = field(default_factory=list)

    def replace(self, worker: int) -> bool:
        self.news += [Ended(other, Died("Ray was killed")) for other in (1, 2) if other != worker]
        return super().replace(worker)

    def wait(self, seconds: float) -> Sequence[Ended[int] | Joined]:
        news, self.news = self.news, []
        return news or super().wait(seconds)


@dataclass
class CrowdedCluster(SimulatedCrew):
    """Nobody takes the place of a worker that ended until somebody else gives a core back."""

    joins_after: float = math.inf
    awaited: dict[int, float] = field(default_factory=dict)

    @property
    def workers(self) -> Sequence[int]:
        return [worker for worker in range(self.size) if worker not in self.awaited]

    def replace(self, worker: int) -> bool:
        super().replace(worker)
        self.awaited[worker] = self.clock + self.joins_after
        return False

    def wait(self, seconds: float) -> Sequence[Ended[int] | Joined]:
        first = min(self.awaited.values(), default=math.inf)
        events = super().wait(min(seconds, first - self.clock))
        if events or self.clock < first:
            return events
        worker = next(w for w, joins in self.awaited.items() if joins == first)
        del self.awaited[worker]
        return [Joined(worker)]


def crashing_once(*tasks: int) -> Callable[[int], Fate]:
    left = list(tasks)

    def fate(task: int) -> Fate:
        crashes = task in left
        if crashes:
            left.remove(task)
        return Fate(10.0, crashes=crashes)

    return fate


def test_a_crew_that_shrinks_goes_on() -> None:
    crew = CrowdedCluster(3, crashing_once(2, 5))
    assert Dispatcher[int, int](crew).run(range(20)) == list(range(20))
    assert len(crew.workers) == 1
    # the next round begins with whom there is
    assert Dispatcher[int, int](crew).run(range(5)) == list(range(5))


def test_a_task_is_given_to_nobody_who_is_not_there() -> None:
    """Its time would run, and it would be taken for one that hangs."""
    crew = CrowdedCluster(1, crashing_once(0), joins_after=100.0)
    patience = Patience(task_seconds=60.0, attempts=2)
    assert Dispatcher[int, int](crew, patience).run([0, 1]) == [0, 1]
    assert crew.clock == 130.0


def test_where_no_worker_is_left_the_job_ends_and_no_candidate_fails() -> None:
    crew = CrowdedCluster(2, crashing_once(0, 1))
    with pytest.raises(WorkerError, match="no worker is left") as caught:
        Dispatcher[int, int](crew).run(range(5))
    assert "--resume" in caught.value.hint
    assert crew.clock == 10.0 + Patience().alone_seconds


def test_nobody_is_waited_for_where_nothing_is_left_to_do() -> None:
    crew = CrowdedCluster(1, lambda task: Fate(10.0, crashes=True))
    (answer,) = Dispatcher[int, int](crew, Patience(attempts=1)).run([0])
    assert isinstance(answer, NoMemoryError)
    assert crew.clock == 10.0


def test_the_death_of_a_worker_that_was_replaced_is_no_news() -> None:
    """Two hang at once; what is heard of the second one later is of the one before it."""
    crew = LateNews(3, lambda task: Fate(100.0 if task == 0 else 1e9))
    patience = Patience(task_seconds=60.0, attempts=1)
    dispatcher = Dispatcher[int, int](crew, patience, lambda task: 300.0 if task == 0 else None)
    long, *hung = dispatcher.run([0, 1, 2])
    assert long == 0
    assert all(isinstance(answer, CandidateError) for answer in hung)
    assert crew.replaced == 2


def test_an_answer_in_time_is_not_taken_for_a_hang() -> None:
    crew = SimulatedCrew(2, lambda task: Fate(59.0))
    answers = Dispatcher[int, int](crew, Patience(task_seconds=60.0)).run(range(10))
    assert answers == list(range(10))
    assert crew.replaced == 0


def test_workers_that_die_whatever_they_are_given_end_the_job() -> None:
    crew = SimulatedCrew(2, lambda task: Fate(1.0, crashes=True))
    with pytest.raises(WorkerError, match="keep dying: it crashed") as caught:
        Dispatcher[int, int](crew).run(range(50))
    assert "--workers 0" in caught.value.hint
    assert crew.replaced < 20


def test_nothing_to_do_is_done_at_once() -> None:
    crew = SimulatedCrew(2, uneven)
    assert Dispatcher[int, int](crew).run([]) == []
    assert crew.clock == 0
