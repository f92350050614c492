"""The two moments of another budget: when it is answered, and when the answer is verified."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autosparse.evaluation import Verdict
from autosparse.pipeline.progress import Progress
from benchmarks import resolve_rows as measured
from benchmarks.resolve_rows import resolve_rows, timing_row


class Clock:
    """Moves only where something happens."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(measured, "time", made)
    return made


def test_the_answer_is_there_when_its_verification_begins(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "job-base"
    (tmp_path / "resolved-0").mkdir()
    asked: list[tuple[str, int]] = []

    def resolve(source: Path, *, latency_budget: str, output_dir: Path, trials: int,
                progress: Progress) -> Any:  # fmt: skip
        assert source == base
        assert not output_dir.exists(), "what an earlier run left is not gone on with"
        asked.append((latency_budget, trials))
        for stage, seconds in (("baseline", 3.0), ("search", 4.0 * trials), ("verify", 5.0)):
            progress.stage(stage, "")
            clock.now += seconds
        progress.stage("verify", "what was found since")
        clock.now += 1.0
        search = SimpleNamespace(trials=8 + trials)
        return SimpleNamespace(verdict=Verdict.MET, manifest=SimpleNamespace(search=search))

    monkeypatch.setattr(measured, "autosparse", SimpleNamespace(resolve=resolve))
    rows = list(resolve_rows("net", base, 0.4, "here", lambda text: None))
    assert asked == [("70.0%", 0), ("70.0%", 4)]
    assert [(row.figure, row.opponent_figure) for row in rows] == [(3.0, 9.0), (19.0, 25.0)]
    assert [row.holds for row in rows] == [True, None]
    assert "by 12 trials in all" in rows[1].note


def test_an_answer_that_takes_minutes_does_not_hold() -> None:
    assert timing_row("net", 0, 61.0, 70.0, "here", "").holds is False
    assert timing_row("net", 4, 61.0, 70.0, "here", "").bar == ""
