"""`autosparse optimize` for several targets or budgets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autosparse.cli import ladder as command
from autosparse.cli.main import run
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.ladder import Ladder, run_ladder
from autosparse.pipeline.progress import Progress
from tests.cli.conftest import Complain
from tests.pipeline.devices import DEVICES, DeviceBench
from tests.pipeline.worlds import World

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceBench:
    made = DeviceBench(World.make(tmp_path, 2, DEVICES["desk"]))

    def run_all(
        configs: Sequence[JobConfig], progress: Progress, *, resume: bool, answer_now: object
    ) -> Ladder:
        return run_ladder(configs, made.engines_on, progress, resume=resume)

    monkeypatch.setattr(command, "run_all", run_all)
    monkeypatch.setenv("COLUMNS", "200")
    return made


def flags(bench: DeviceBench, *more: str) -> list[str]:
    root = bench.world.root
    return [
        "optimize", str(root / "model.onnx"), "--calibration", str(root / "calibration.npz"),
        "--validation", str(root / "validation.npz"), "--space", "int8", "--max-drop", "50pt",
        "--trials", "4", "--output-dir", str(root / "out"), *more,
    ]  # fmt: skip


def test_every_job_has_a_row(bench: DeviceBench, capsys: Capture) -> None:
    budgets = ("--latency-budget", "75%", "--latency-budget", "5%")
    assert run(flags(bench, *budgets)) == 3
    lines = capsys.readouterr().out.splitlines()
    (met,) = (line for line in lines if "this-machine-75pct" in line)
    assert "met" in met
    assert "ms (p50)" in met
    (missed,) = (line for line in lines if "this-machine-5pct" in line)
    assert "latency-infeasible" in missed
    assert lines[-1].startswith("page: ")
    assert lines[-1].endswith("ladder.html")
    assert run(flags(bench, *budgets, "--resume", "--json")) == 3
    listing: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [job["verdict"] for job in listing["jobs"]] == ["met", "latency-infeasible"]


def test_a_dry_run_tells_every_target(bench: DeviceBench, capsys: Capture) -> None:
    targets = [part for name in ("desk", "board") for part in ("--target", bench.target(name))]
    asked = flags(bench, "--latency-budget", "75%", *targets, "--dry-run")
    assert run(asked) == 0
    out = capsys.readouterr().out
    assert [f"On {bench.target(name)}:" in out for name in ("desk", "board")] == [True, True]
    assert run([*asked, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [
        bench.target("desk"), bench.target("board"),
    ]  # fmt: skip


def test_a_dry_run_refuses_what_the_ladder_would(bench: DeviceBench, complain: Complain) -> None:
    budgets = ("--latency-budget", "75%", "--latency-budget", "60%")
    for dry in ((), ("--dry-run",)):
        told = complain(flags(bench, *budgets, "--backend", "auto", *dry))[0]
        assert "several targets or budgets need a backend each" in told


def test_the_same_budget_twice(bench: DeviceBench, complain: Complain) -> None:
    budgets = ("--latency-budget", "75%", "--latency-budget", "75%")
    assert complain(flags(bench, *budgets))[0] == "error: --latency-budget 75% is given twice"


@pytest.mark.slow
def test_simulated_devices(bench: DeviceBench, capsys: Capture, monkeypatch: Any) -> None:
    """Everything is real but the devices."""
    monkeypatch.undo()
    devices = ("--target", "sim://pixel-8", "--target", "sim://raspberry-pi-5")
    assert run(flags(bench, "--latency-budget", "120%", *devices, "--json")) == 4
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["name"] for job in jobs] == ["sim-pixel-8-120pct", "sim-raspberry-pi-5-120pct"]
    assert [job["verdict"] for job in jobs] == ["simulated", "simulated"]
    assert jobs[0]["baseline_seconds"] != jobs[1]["baseline_seconds"]
