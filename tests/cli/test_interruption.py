"""Ctrl-C asks for the answer as it stands; a second one ends the command."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from autosparse.cli.interruption import answering_on_interrupt
from autosparse.evaluation import Verdict
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_asks_and_the_second_ends() -> None:
    before, answer_now, told = signal.getsignal(signal.SIGINT), Event(), Told()
    with answering_on_interrupt(answer_now, told):
        interrupt()
        assert answer_now.is_set()
        assert "what is best so far" in told.notes[0]
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_that_is_interrupted_delivers_what_is_best_so_far(tmp_path: Path) -> None:
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error({"layer1": 0.5})))
    told = Told()
    trials: list[object] = []

    class Impatient(Told):
        def trial(self, *arguments: object) -> None:
            trials.append(arguments)
            if len(trials) == 4:
                interrupt()

    engines = replace(world.engines(), progress=Impatient())
    with answering_on_interrupt(engines.answer_now, told):
        result = world.run(engines=engines, trials=25)
    assert result.verdict is Verdict.MET
    assert 4 <= len(trials) < 25
    assert world.run(trials=25, resume=True).manifest.search.trials > len(trials)
