"""Ctrl-C asks for the answer as it stands; a second one ends the command."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

import workers.resolve
from autosparse.cli.interruption import answering_on_interrupt
from autosparse.cli.main import COMMANDS, run
from autosparse.evaluation import Verdict
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Progress, Silent
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


def test_a_resolve_that_is_interrupted_delivers_what_is_best_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World.make(tmp_path, 4, Planted(layer_seconds, summed_error({"layer1": 0.5})))
    assert world.run(trials=6, latency_budget="80%").verdict is Verdict.MET

    @contextmanager
    def interrupted(config: JobConfig, progress: Progress) -> Iterator[Engines]:
        interrupt()
        yield replace(world.engines(), progress=progress)

    monkeypatch.setattr(workers.resolve, "engines_of", interrupted)
    new = tmp_path / "new"
    asked = ["resolve", str(tmp_path / "out"), "--latency-budget", "75%", "--output-dir", str(new)]
    assert run(asked) == 0
    out, err = capsys.readouterr()
    assert "what is best so far is verified" in " ".join(err.split())
    assert "MET" in out
    assert (new / "bundle" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("argv", "goes_on"),
    [
        (["optimize", "model.onnx"], True),
        (["resolve", "result"], True),
        (["verify", "bundle"], False),
        (["replay", "result"], False),
        (["benchmark", "model.onnx"], False),
        (["demo"], False),
    ],
)
def test_only_what_can_be_resumed_is_told_to_be(
    argv: list[str], goes_on: bool, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{COMMANDS[argv[0]].module}.run", interrupted)
    assert run(argv) == 130
    err = capsys.readouterr().err
    assert err.startswith("error: interrupted")
    assert ("--resume" in err) is goes_on
