"""A machine that is throttled while another process measures: scripted canaries, real lanes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
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
from autosparse.evaluation.canaries import Canaries
from autosparse.evaluation.measurement import CanaryReading
from autosparse.evaluation.quiet_state import MEMORY_SECONDS, MOST_SEEN, QuietState
from autosparse.evaluation.timing import time_interleaved
from autosparse.pipeline.stopwatch import Stopwatch
from tests.pipeline.sparse_world import Notes
from tests.workers.agents import DEVICE, KEY, PlayedLane, running_agent
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled
from workers.asking_lane import AskingLane
from workers.messages import MeasureRequest, ProfileRequest, Reply
from workers.quiet_memory import QuietMemory
from workers.user_state import state_directory

QUICK = TimingSettings(rounds=4, block_seconds=0.003, warmup_runs=0, max_seconds=0.5)
NEVER = 10**9
Factors = tuple[float, float, float]
# the vector units alone, as machines do that share their power
THROTTLED: Factors = (2.5, 1.0, 1.0)


@dataclass
class Machine:
    """A clock that only work moves. Its vector units are throttled between two moments."""

    throttled_from: float = NEVER
    throttled_until: float = NEVER
    factors: Factors = THROTTLED
    """Of the three canaries while it is throttled."""
    now: float = 0.0

    def clock(self) -> float:
        return self.now

    @property
    def slowness(self) -> Factors:
        throttled = self.throttled_from <= self.now < self.throttled_until
        return self.factors if throttled else (1.0, 1.0, 1.0)

    def canaries(self) -> CanaryReading:
        self.now += 0.001
        fma, stream, scalar = self.slowness
        return CanaryReading.of((1.0 * fma, 2.0 * stream, 3.0 * scalar))

    def infer(self) -> None:
        self.now += 0.001 * max(self.slowness)


@dataclass
class MachineLane(AskingLane):
    """What the measuring process does, on a scripted machine: a fresh process has new canaries."""

    machine: Machine
    memory: QuietMemory
    cores: tuple[int, ...] = (1,)
    canaries: Canaries | None = None
    asked: list[QuietState | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.memory)

    def environment(self) -> Environment:
        return read_environment()

    def ask(
        self, request: MeasureRequest | ProfileRequest, limit_seconds: float, *, fresh: bool
    ) -> Reply:
        assert isinstance(request, MeasureRequest)
        self.asked.append(request.quiet)
        if fresh or self.canaries is None:
            self.canaries = Canaries(self.machine.canaries)
        self.canaries.begin(request.quiet, self.cores)
        runs = dict.fromkeys(request.files, self.machine.infer)
        blocks = time_interleaved(
            runs, request.settings, self.canaries, self.machine.clock, lambda: 0
        )
        measured = {
            label: Measurement(
                label=label, file_sha256="", target="t", environment="e", warmup_runs=0,
                blocks=taken,
            )
            for label, taken in blocks.items()
        }  # fmt: skip
        return Reply(measurements=measured, quiet=self.canaries.seen())

    def close(self) -> None:
        """Nothing is open."""


def now_of(machine: Machine) -> QuietMemory:
    return QuietMemory(now=machine.clock)


def measure(lane: AskingLane, *, fresh: bool = True) -> dict[str, Measurement]:
    files = {"baseline": LoweredModel(Path(), "a"), "candidate": LoweredModel(Path(), "b")}
    return lane.measure(files, Path("inputs.npz"), Target(), QUICK, fresh=fresh)


def patiently(lane: AskingLane, notes: Notes) -> dict[str, Measurement]:
    files = {"baseline": LoweredModel(Path(), "a"), "candidate": LoweredModel(Path(), "b")}
    stopwatch = Stopwatch(lane, notes, Target(), Path("inputs.npz"))
    return stopwatch.measure(files, QUICK, fresh=True)


def accepted(measured: dict[str, Measurement]) -> set[bool]:
    return {block.accepted for m in measured.values() for block in m.blocks}


def test_a_fresh_process_knows_that_the_machine_is_throttled() -> None:
    machine = Machine()
    lane = MachineLane(machine, now_of(machine))
    assert accepted(measure(lane)) == {True}
    machine.throttled_from = machine.now
    measured = measure(lane)
    # nothing within the run told it: every canary of this process was as slow as the others
    assert accepted(measured) == {False}
    slowdowns = {round(b.slowdown, 2) for m in measured.values() for b in m.blocks}
    assert slowdowns == {round(2.5 / 1.03 - 1, 2)}


def test_a_verification_waits_until_the_throttling_is_over() -> None:
    machine, notes = Machine(), Notes()
    lane = MachineLane(machine, now_of(machine))
    measure(lane)
    # through the first attempt and into the second
    machine.throttled_from, machine.throttled_until = machine.now, machine.now + 0.8
    measured = patiently(lane, notes)
    kept = [b for m in measured.values() for b in m.blocks if b.accepted]
    assert len(kept) >= 2 * 3
    samples = [seconds for block in kept for seconds in block.samples_seconds]
    assert samples == pytest.approx([0.001] * len(samples))
    assert len(notes.told) == 1
    assert "slower than this machine's quiet state" in notes.told[0]


def test_a_machine_that_stays_throttled_ends_in_an_error_that_says_so() -> None:
    machine, notes = Machine(), Notes()
    lane = MachineLane(machine, now_of(machine))
    measure(lane)
    machine.throttled_from = machine.now
    told = "every round of samples was disturbed; its canaries ran at least 143% slower"
    with pytest.raises(DisturbedError, match=told) as caught:
        patiently(lane, notes)
    assert len(notes.told) == 3
    assert "slower for good" in caught.value.hint


def test_a_machine_that_is_slower_for_good_is_believed_in_time() -> None:
    """By its measurements, or by the hour: it never hangs a job, and never for ever."""
    machine = Machine()
    lane = MachineLane(machine, now_of(machine))
    for _ in range(MOST_SEEN):
        measure(lane)
    machine.throttled_from = machine.now
    refused = 0
    while accepted(measure(lane)) == {False}:
        refused += 1
        assert refused <= MOST_SEEN
    # not within the patience of one measurement, nor of several
    assert refused > 9


def test_what_was_seen_an_hour_ago_is_forgotten() -> None:
    machine = Machine()
    lane = MachineLane(machine, now_of(machine))
    measure(lane)
    machine.now += MEMORY_SECONDS + 1.0
    machine.throttled_from = machine.now
    assert accepted(measure(lane)) == {True}
    assert lane.asked == [None, None]


def test_one_measurement_that_was_too_good_to_be_true_does_not_discard_everything() -> None:
    machine = Machine()
    lane = MachineLane(machine, now_of(machine))
    for _ in range(MOST_SEEN - 1):
        measure(lane)
    outlier = CanaryReading(fma_seconds=0.3, stream_seconds=2.0, scalar_seconds=3.0)
    lane.memory.add(lane.environment(), 1, QuietState(best=outlier, cores=(1,)))
    assert accepted(measure(lane)) == {True}


@pytest.mark.parametrize(
    ("factors", "counts"),
    [
        # where a process's arrays lie in memory
        ((1.0, 1.2, 1.0), True),
        # the boost clock of the minute
        ((1.12, 1.12, 1.12), True),
        ((1.05, 1.0, 1.0), True),
        # vector units that are throttled a little, and a clock that is not the boost's
        ((1.12, 1.0, 1.0), False),
        ((1.3, 1.3, 1.3), False),
        # a faster clock does not hide it
        ((1.05, 0.9, 0.9), False),
    ],
)
def test_two_processes_may_differ_by_so_much(factors: Factors, counts: bool) -> None:
    machine = Machine(factors=factors)
    lane = MachineLane(machine, now_of(machine))
    measure(lane)
    machine.throttled_from = machine.now
    assert accepted(measure(lane)) == {counts}


def test_within_a_process_its_own_readings_count_as_strictly_as_ever() -> None:
    machine = Machine(factors=(1.0, 1.1, 1.0))
    lane = MachineLane(machine, now_of(machine))
    measure(lane)
    machine.throttled_from, machine.throttled_until = machine.now, machine.now + 0.05
    measured = measure(lane, fresh=False)
    assert accepted(measured) == {True, False}


def test_other_cores_and_other_numbers_of_threads_are_other_machines() -> None:
    machine = Machine()
    memory = now_of(machine)
    measure(MachineLane(machine, memory))
    machine.throttled_from = machine.now
    assert accepted(measure(MachineLane(machine, memory, cores=(0,)))) == {True}
    assert memory.state(read_environment(), 2) is None
    assert memory.state(DEVICE, 1) is None


def test_the_next_job_knows_it_too(tmp_path: Path) -> None:
    machine = Machine()
    measure(MachineLane(machine, QuietMemory(tmp_path / "quiet", machine.clock)))
    machine.throttled_from = machine.now
    lane = MachineLane(machine, QuietMemory(tmp_path / "quiet", machine.clock))
    assert accepted(measure(lane)) == {False}
    assert [path.name for path in (tmp_path / "quiet").iterdir()] == [
        f"{read_environment().id}.json"
    ]


DAMAGED = {
    "empty": "", "torn": '{"seen": [{"best": {"fma', "other": "[]", "bytes": "\x00\x01",
    "zero": '{"seen": [{"best": {"fma_seconds": 0, "stream_seconds": 1, "scalar_seconds": 1},'
    ' "cores": [1], "threads": 1, "at": 0}]}',
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_tells_nothing_and_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / f"{read_environment().id}.json"
    path.write_text(content, encoding="utf-8")
    machine = Machine()
    lane = MachineLane(machine, QuietMemory(tmp_path, machine.clock))
    assert accepted(measure(lane)) == {True}
    assert lane.asked == [None]
    assert len(json.loads(path.read_bytes())["seen"]) == 1


def test_where_nothing_can_be_written_a_lane_remembers_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    machine = Machine()
    lane = MachineLane(machine, QuietMemory(tmp_path / "file" / "quiet", machine.clock))
    measure(lane)
    machine.throttled_from = machine.now
    assert accepted(measure(lane)) == {False}


def test_it_lies_in_the_users_own_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_directory("quiet") == Path("/somewhere/autosparse/quiet")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    assert state_directory("quiet") == Path("/home/somebody/.local/state/autosparse/quiet")


@pytest.fixture
def files(tmp_path: Path, residual_model: Path) -> tuple[LoweredModel, Path]:
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.zeros(1))
    return LoweredModel(residual_model.parent, residual_model.name), inputs


@dataclass
class TellingLane(PlayedLane):
    """Tells what it saw, as a measuring process does."""

    def ask(
        self, request: MeasureRequest | ProfileRequest, limit_seconds: float, *, fresh: bool
    ) -> Reply:
        best = CanaryReading(fma_seconds=1.0, stream_seconds=2.0, scalar_seconds=3.0)
        answer = super().ask(request, limit_seconds, fresh=fresh)
        return answer.model_copy(update={"quiet": QuietState(best=best, cores=(3,))})


def test_an_agents_device_is_remembered_by_who_asks(
    tmp_path: Path, files: tuple[LoweredModel, Path]
) -> None:
    model, inputs = files
    target = Target(address="rpc://10.0.0.9:9190")
    with running_agent(tmp_path / "scratch", TellingLane()) as agent:
        lane = AgentLane(Dialled(agent.address, KEY), print)
        for _ in range(2):
            lane.measure({"one": model}, inputs, target, QUICK, fresh=True)
        first, second = agent.lane.asked
    assert isinstance(first, MeasureRequest)
    assert isinstance(second, MeasureRequest)
    assert first.quiet is None
    assert second.quiet is not None
    assert second.quiet.cores == (3,)
    assert second.quiet.best.seconds == (1.0, 2.0, 3.0)
