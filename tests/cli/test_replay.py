"""`autosparse replay`: what it says, and its exit code."""

from __future__ import annotations

import json

import pytest

from autosparse.cli import replay as command
from autosparse.cli.main import run
from autosparse.pipeline.replay import Replayed

Capture = pytest.CaptureFixture[str]
SAME = Replayed("auto", 3, logged=9, trials=9, candidates=40)
OTHER = Replayed("auto", 3, 9, 4, 20, "trial 5, of recipe abc, is not proposed now")


def answering(found: Replayed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "replay", lambda source, progress: found)


def test_a_search_that_comes_out_alike(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    answering(SAME, monkeypatch)
    assert run(["replay", "result"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told == "THE SAME: 9 of 9 trials and 40 candidates of auto with seed 3."


def test_one_that_does_not(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    answering(OTHER, monkeypatch)
    assert run(["replay", "result"]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("DIFFERENT: 4 of 9 trials")
    assert told.endswith("; trial 5, of recipe abc, is not proposed now.")


def test_as_json(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    answering(OTHER, monkeypatch)
    assert run(["replay", "result", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["trials"], document["logged"]) == (4, 9)
    assert document["difference"] == OTHER.difference


def test_without_a_job_it_is_bad_input(capsys: Capture) -> None:
    assert run(["replay", "nowhere"]) == 2
    assert "there is no nowhere" in capsys.readouterr().err
