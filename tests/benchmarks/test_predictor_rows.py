"""How the predictor is held against guesses, and a score against two cores."""

from __future__ import annotations

import os
import threading

import numpy as np
import psutil
import pytest

from benchmarks.held_cores import held_cores
from benchmarks.predictor_rows import error_rows

MEASURED = np.linspace(0.5, 1.0, 11)


@pytest.mark.parametrize(("error", "holds"), [(0.04, True), (0.06, False)])
def test_half_of_a_guess_is_the_most(error: float, *, holds: bool) -> None:
    guesses = {"table": MEASURED * 1.1, "constant": MEASURED * 0.9}
    rows = list(error_rows("net", MEASURED * (1 + error), guesses, MEASURED, "here", ""))
    assert [row.opponent for row in rows] == ["table", "constant"]
    assert {row.bar for row in rows} == {"ratio <= 0.5"}
    assert [row.holds for row in rows] == [holds, holds]
    assert rows[0].figure == pytest.approx(100 * error)


def test_every_thread_is_held_and_let_go() -> None:
    def cores() -> set[frozenset[int]]:
        threads = psutil.Process().threads()
        return {frozenset(os.sched_getaffinity(thread.id)) for thread in threads}

    before, done = os.sched_getaffinity(0), threading.Event()
    waiting = threading.Thread(target=done.wait)
    waiting.start()
    free = cores()
    try:
        with held_cores(1) as count:
            assert count == 1
            assert cores() == {frozenset([min(before)])}
        assert cores() == free
        with held_cores(10_000) as count:
            assert count == len(before)
    finally:
        done.set()
        waiting.join()
