"""The benchmark of recovery trainings: its bars, its intervals, and what it says without data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, cast

import pytest
import torch

from autosparse.levels import Level
from autosparse.levels.masks import project
from autosparse.recovery import RECOVERIES, Moment, Recovery
from autosparse.recovery.members import Watch
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.training import CurvePoint, Outcome
from benchmarks import methods
from benchmarks.benchmark import Request
from benchmarks.controls import CONTROLS, RANDOM, control_of
from benchmarks.intervals import interval_text
from benchmarks.lab_data import LabData
from benchmarks.methods import (
    AIMS,
    BARS,
    COMPARISONS,
    FULL,
    LAB_DATA,
    QUICK,
    MethodsBenchmark,
    chosen_scale,
    comparisons,
)
from benchmarks.recovery_lab import Trained, Weights
from benchmarks.rows import Row
from tests.recovery.lessons import one_layer


def test_every_bar_is_a_level_and_every_model_has_bars() -> None:
    for spelling, bars in BARS.items():
        assert Level.parse(spelling).sparsity > 0
        assert set(bars) <= set(LAB_DATA)
    assert {model for bars in BARS.values() for model in bars} == set(FULL.models)
    for spelling, aims in AIMS.items():
        # with more time, less is lost
        assert all(aim < BARS[spelling][model] for model, aim in aims.items())
    assert set(QUICK.models) <= set(FULL.models)
    assert FULL.has_bars
    assert not QUICK.has_bars


def test_an_interval_over_seeds_by_hand() -> None:
    """Mean 2, standard deviation 1: 4.30 / sqrt(3) to each side."""
    assert interval_text([1.0, 2.0, 3.0]) == "2.00 (-0.48 to 4.48), 3 seeds"
    assert interval_text([1.5]) == "1.50, one seed"
    assert interval_text([1.0, 2.0, 3.0], "draw").endswith(", 3 draws")


@pytest.mark.parametrize("quick", [True, False])
def test_without_the_assets_the_rows_are_skipped(tmp_path: Path, *, quick: bool) -> None:
    request = Request(quick=quick, assets=tmp_path, directory=tmp_path / "run")
    rows = list(MethodsBenchmark().rows(request))
    scale = QUICK if quick else FULL
    assert [row.what for row in rows] == list(scale.models)
    assert all(row.note.startswith("skipped: there is no ") for row in rows)
    assert all(row.holds is None for row in rows)


def test_recoveries_are_compared_by_name() -> None:
    scale = chosen_scale(False, ("resnet20", "gsm", "st3"))
    assert (scale.models, scale.compared) == (("resnet20",), ("gsm", "st3"))
    assert scale.steps == FULL.steps
    quick = chosen_scale(True, ("gsm",))
    assert (quick.models, quick.compared) == (QUICK.models, ("gsm",))
    assert quick.steps > 0
    assert chosen_scale(False, ()) == FULL


class FakeLab:
    """Trainings that take no time: a method loses a tenth of a point more with every seed."""

    dense = 90.0
    lost: ClassVar = {"fine_tune": 2.0, "gsm": 1.5, "iss_p": 1.75, "random_zeros": 9.5}
    trained: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, data: LabData, directory: Path) -> None:
        self.data = data

    def levels(self, level: Level) -> dict[str, Level]:
        return {"conv": level}

    def one_shot(self, levels: Mapping[str, Level]) -> Weights:
        assert levels, "nothing is solved for the dense control"
        return {}

    def score(self, levels: Mapping[str, Level], weights: Weights) -> float:
        return 85.0 if levels else 90.0

    def train(
        self,
        levels: Mapping[str, Level],
        weights: Weights,
        recovery: Recovery,
        plan: TrainingPlan,
        checkpoint: Path,
        watch: Watch,
    ) -> Trained:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
        watch(CurvePoint(step=5, seconds=60.0, training_loss=1.0, held_out=1.0, at_target=True))
        self.trained.append((recovery.name if levels else "dense", plan.seed))
        drop = self.lost[recovery.name] + 0.1 * plan.seed if levels else 0.2
        outcome = SimpleNamespace(steps=plan.steps or 77, arithmetic="fp32")
        return Trained(self.dense - drop, cast(Outcome, outcome))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> type[FakeLab]:
    data = SimpleNamespace(
        plan=lambda seconds, seed, steps: TrainingPlan(seconds=seconds, seed=seed, steps=steps)
    )
    monkeypatch.setattr(methods, "RecoveryLab", FakeLab)
    monkeypatch.setattr(methods, "LAB_DATA", {"resnet20": lambda request: data})
    FakeLab.trained.clear()
    return FakeLab


def run(directory: Path, *patterns: str, models: tuple[str, ...] = ("resnet20",)) -> list[Row]:
    request = Request(
        quick=False, assets=directory, directory=directory, models=models, parts=patterns
    )
    return list(MethodsBenchmark().rows(request))


def test_trainings_of_several_runs_are_pooled(tmp_path: Path, lab: type[FakeLab]) -> None:
    first, left = run(tmp_path, "resnet20/2:4:fp32/timed-0")
    assert lab.trained == [("fine_tune", 0)]
    assert first.figure == pytest.approx(2.0)
    assert (first.opponent_figure, first.holds) == (None, None)
    assert "3 seeds are asked for" in first.note
    assert left.what == "parts left"
    found = run(tmp_path, "resnet20/2:4:fp32/timed-*", "resnet20/dense/timed-*")[0]
    every = [(name, seed) for name in ("dense", "fine_tune") for seed in range(3)]
    assert sorted(lab.trained) == every  # each of them once
    assert (found.figure, found.opponent_figure) == pytest.approx((2.1, 0.2))
    assert found.holds is False  # 0.5 points are allowed
    assert "before training 5.0; steps 77, 77, 77" in found.note


def test_an_hour_goes_on_in_the_next_run_and_is_no_bar(
    tmp_path: Path, lab: type[FakeLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = "resnet20/unstructured@0.90:fp32/hour-0"
    with monkeypatch.context() as patched:
        patched.setattr(methods, "_MOST_SECONDS", -1.0)
        (left,) = run(tmp_path, pattern)
        assert (left.what, left.holds) == ("parts left", None)
        assert len(list(tmp_path.rglob("hour-0.pt"))) == 1
    row, left = run(tmp_path, pattern)
    assert row.what == "resnet20: unstructured@0.90:fp32, trained for 3600 s"
    assert row.figure == pytest.approx(2.0)
    assert (row.bar, row.holds) == ("aim: 1.6", None)
    assert not list(tmp_path.rglob("hour-0.pt"))
    every = [f"resnet20/{spelling}/*" for spelling in BARS if "resnet20" in BARS[spelling]]
    assert all(folder in left.note for folder in every)  # what is missing is named


def test_what_a_method_gains_is_told_seed_by_seed(tmp_path: Path, lab: type[FakeLab]) -> None:
    """Over the method without its idea; over fine-tuning and random zeros beside."""
    parts = ("resnet20/2:4:fp32/*",)
    (row, *_) = run(tmp_path, *parts, models=("resnet20", "gsm"))
    assert row.what == f"resnet20: 2:4:fp32, gsm, {FULL.steps} steps"
    assert row.opponent == "iss_p"
    assert (row.figure, row.opponent_figure) == pytest.approx((1.6, 1.85))
    assert row.note == (
        "gain: 0.25 (0.25 to 0.25), 3 seeds; over fine_tune of a solver's weights: "
        "0.50 (0.50 to 0.50), 3 seeds; over random zeros: 8.00 (8.00 to 8.00), 3 seeds"
    )
    assert ("dense", 0) not in lab.trained
    (row, *_) = run(tmp_path, *parts, models=("resnet20", "fine_tune"))
    assert (row.opponent, row.note) == ("random_zeros", "gain: 7.50 (7.50 to 7.50), 3 seeds")


def test_every_recovery_has_a_control_and_meets_it_somewhere() -> None:
    assert set(CONTROLS) == set(RECOVERIES.names())
    met = set()
    for comparison in COMPARISONS:
        level = {"every layer": Level.parse(comparison.spelling)}
        assert set(comparison.models) <= set(FULL.models)
        for name in comparison.recoveries or RECOVERIES.names():
            if RECOVERIES.load(name).why_not(level):
                assert not comparison.recoveries, f"{name} is named, and does not train {level}"
                continue
            met.add(name)
            assert control_of(name).make().why_not(level) == ""
    assert met >= set(CONTROLS)
    assert [found.spelling for found in comparisons("minilm", FULL)] == ["2:4:fp32"]
    by_name = comparisons("minilm", chosen_scale(False, ("minilm", "gsm")))
    assert {found.spelling for found in by_name} == {found.spelling for found in COMPARISONS}
    assert not comparisons("resnet20", QUICK)


def test_a_control_is_not_the_method_and_begins_where_it_does() -> None:
    """What is compared is the idea, not the weights that a training begins at.

    Zeros at random say nothing of what a solver left, and begin at dense weights.
    """
    for name, control in CONTROLS.items():
        method, other = RECOVERIES.load(name), control.make()
        if control is RANDOM:
            continue
        assert (other.start, other.optimizer) == (method.start, method.optimizer), name
        assert control.title != name
        assert "/" not in control.title
    titles = {control.title: control.make() for control in CONTROLS.values()}
    assert len({(type(made), str(getattr(made, "config", ""))) for made in titles.values()}) == len(
        titles
    )


def test_controls_have_the_idea_taken_out() -> None:
    """Magnitude's zeros, stay where they are; nothing shrinks before the cut; one particle."""
    at_once = one_layer(control_of("gradual").make(), "unstructured@0.75:fp32")
    assert torch.equal(at_once.mask, project(at_once.raw.detach().abs(), at_once.pattern))
    recovery = control_of("hypersparse").make()
    layer = one_layer(recovery, "unstructured@0.75:fp32")
    before = layer.raw.detach().clone()
    for step in range(1, 6):
        recovery.after_step([layer], Moment(step, step / 10, 0.1), torch.optim.SGD([layer.raw]))
    assert torch.allclose(layer.raw.detach(), before, rtol=1e-6)
    assert (control_of("swamp").make().members, control_of("swamp").make().rounds) == (1, 3)
