"""The stopwatch's patience: too few undisturbed rounds are no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autosparse.errors import DisturbedError
from autosparse.evaluation import (
    Environment,
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
    read_environment,
)
from autosparse.evaluation.backend import NodeTime
from autosparse.evaluation.measurement import Block
from autosparse.pipeline.stopwatch import Stopwatch
from tests.pipeline.sparse_world import Notes

FILES = {"baseline": LoweredModel(Path(), "a.onnx"), "candidate": LoweredModel(Path(), "b.onnx")}


@dataclass
class ScriptedLane:
    """Implements `MeasurementLane`: of each attempt, which rounds are undisturbed (+) or not (-).

    Files of one round are disturbed together, but for `x`: then only the candidate is.
    """

    attempts: Sequence[str]
    asked: list[TimingSettings] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)

    def environment(self) -> Environment:
        return read_environment()

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        rounds = self.attempts[len(self.asked)]
        self.asked.append(settings)
        self.fresh.append(fresh)
        return {
            label: Measurement(
                label=label, file_sha256="", target="here", environment="e", warmup_runs=0,
                blocks=tuple(
                    Block(
                        samples_seconds=(0.001,), slowdown=0.0,
                        accepted=mark == "+" or (mark == "x" and label == "baseline"),
                    )
                    for mark in rounds
                ),
            )
            for label in files
        }  # fmt: skip

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        return []

    def close(self) -> None:
        """Nothing is open."""


def timed(attempts: Sequence[str], rounds: int) -> tuple[ScriptedLane, list[str], int]:
    """The lane, what was noted, and how many rounds the accepted attempt has."""
    lane, notes = ScriptedLane(attempts), Notes()
    stopwatch = Stopwatch(lane, notes, Target(), Path("inputs.npz"))
    found = stopwatch.measure(FILES, TimingSettings(rounds=rounds))
    return lane, notes.told, len(found["candidate"].blocks)


@pytest.mark.parametrize(
    ("attempts", "rounds"),
    [
        # two rounds, and one in which only the baseline was undisturbed
        (["++x---", "+++-"], 4),
        # half of those that were asked for
        (["+++++++" + 40 * "-", "++++++++" + 40 * "-"], 16),
        # half of those that slow files had the time for
        (["+++----", "++++---"], 16),
        (["++-", "+++"], 16),
    ],
)
def test_too_few_undisturbed_rounds_are_measured_again(
    attempts: Sequence[str], rounds: int
) -> None:
    lane, told, found = timed(attempts, rounds)
    assert len(lane.asked) == 2
    assert found == len(attempts[0]) + len(attempts[1])
    assert len(told) == 1
    assert "attempt 1 of 3" in told[0]


def test_rounds_of_all_attempts_count_together() -> None:
    """A machine with a busy neighbour has a quiet moment now and then."""
    lane, told, found = timed(["+-----", "-+----", "----+-"], 6)
    assert (len(lane.asked), len(told), found) == (3, 2, 18)
    assert lane.fresh == [False, True, True]  # what disturbs may be where a process's arrays lie


def test_enough_undisturbed_rounds_are_an_answer_at_once() -> None:
    lane, told, _ = timed(["+++---"], 6)
    assert (len(lane.asked), told) == (1, [])


def test_a_machine_that_is_hardly_ever_quiet_ends_in_an_error_with_the_numbers() -> None:
    with pytest.raises(DisturbedError, match=r"only 3 of 19 rounds .*, and 4 are needed") as told:
        timed(["------", "++----", "+------"], 16)
    assert "stop other work" in told.value.hint
