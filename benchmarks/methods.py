"""`methods`: what recovery training gives back, against bars and against plain fine-tuning.

Every drop is that of a lowered file on validation images, beside a dense control: the same model
with the same training and no zeros, since a training alone changes accuracy, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from autosparse.evaluation import read_environment
from autosparse.levels import Level
from autosparse.recovery import RECOVERIES
from autosparse.recovery.plan import TrainingPlan
from benchmarks.benchmark import Request
from benchmarks.guarded import guarded_rows
from benchmarks.recovery_lab import RecoveryLab, Trained
from benchmarks.rows import Row

# level -> points of accuracy that may be lost, for each model
BARS: dict[str, dict[str, float]] = {
    "2:4:fp32": {"resnet20": 0.5, "resnet56": 0.5},
    "unstructured@0.80:fp32": {"resnet20": 1.0, "resnet56": 1.0},
    "unstructured@0.90:fp32": {"resnet20": 2.5, "resnet56": 2.0},
    "block1x4@0.75:int8": {"resnet20": 1.5, "resnet56": 1.5},
}
_COMPARED = ("2:4:fp32", "unstructured@0.90:fp32")
_CONTROL = "fine_tune"
_QUICK_STEPS = 150
# 97.5th percentile of Student's t, by degrees of freedom
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}


@dataclass(frozen=True)
class Scale:
    """How much of everything one run takes."""

    models: tuple[str, ...]
    seconds: float
    """Of every training that is held against a bar."""
    steps: int
    """Of every training in which methods are compared; 0 to leave that out."""
    seeds: int
    rows: int
    validation: int
    has_bars: bool
    """Whether the trainings are those that the bars are meant for."""
    compared: tuple[str, ...] = ()
    """Recoveries that are compared, and nothing else is done; empty for the bars and all."""


FULL = Scale(("resnet20", "resnet56"), 900.0, 1000, 3, 50_000, 5000, has_bars=True)
QUICK = Scale(("resnet20",), 40.0, 0, 1, 4000, 1000, has_bars=False)


class MethodsBenchmark:
    """Every model at every level."""

    summary = "what recovery training gives back, against a dense control with the same training"

    def rows(self, request: Request) -> Iterator[Row]:
        """Measure model after model; what fails is a row, and the next one runs."""
        scale = chosen_scale(request.quick, request.models)
        environment = read_environment().id
        for model in scale.models:
            make = partial(_model_rows, request, scale, environment, model)
            yield from guarded_rows(request, environment, model, make)


@dataclass(frozen=True)
class Bout:
    """One model's trainings."""

    model: str
    lab: RecoveryLab
    scale: Scale
    environment: str
    control: tuple[Trained, ...]
    """The dense model with the same training, seed by seed."""

    def level_row(self, spelling: str) -> Row:
        """One level at every layer, against its bar."""
        lab, scale = self.lab, self.scale
        levels = lab.levels(Level.parse(spelling))
        weights = lab.one_shot(levels)
        before = 100 * (lab.dense - lab.accuracy(levels, weights))
        trained = [lab.train(levels, weights, _CONTROL, plan) for plan in timed_plans(scale)]
        drops, theirs = self._drops(trained), self._drops(self.control)
        bar = BARS[spelling].get(self.model) if scale.has_bars else None
        mean = float(np.mean(drops))
        steps = ", ".join(str(t.outcome.steps) for t in trained)
        return Row(
            what=f"{self.model}: {spelling}, trained for {scale.seconds:.0f} s", figure=mean,
            unit="points lost", opponent="dense, the same training",
            opponent_figure=float(np.mean(theirs)), bar="" if bar is None else f"<= {bar}",
            holds=None if bar is None else mean <= bar, environment=self.environment,
            note=f"{interval_text(drops)}; before training {before:.1f}; steps {steps}; "
            f"{trained[0].outcome.arithmetic}; dense {100 * lab.dense:.2f} %",
        )  # fmt: skip

    def compared(self, spelling: str) -> Iterator[Row]:
        """Every recovery against fine-tuning, the same steps on the same rows."""
        levels = self.lab.levels(Level.parse(spelling))
        weights = self.lab.one_shot(levels)

        def drops(method: str) -> list[float]:
            plans = [steps_plan(self.scale, seed) for seed in range(self.scale.seeds)]
            return self._drops([self.lab.train(levels, weights, method, p) for p in plans])

        theirs = drops(_CONTROL)
        for name in self.scale.compared or RECOVERIES.names():
            if name == _CONTROL or RECOVERIES.load(name).why_not(levels):
                continue
            mine = drops(name)
            gains = [a - b for a, b in zip(theirs, mine, strict=True)]
            yield Row(
                what=f"{self.model}: {spelling}, {name}, {self.scale.steps} steps",
                figure=float(np.mean(mine)), unit="points lost", opponent=_CONTROL,
                opponent_figure=float(np.mean(theirs)), environment=self.environment,
                note=f"gain: {interval_text(gains)}",
            )  # fmt: skip

    def _drops(self, trained: Sequence[Trained]) -> list[float]:
        return [100 * (self.lab.dense - t.accuracy) for t in trained]


def chosen_scale(quick: bool, asked: Sequence[str]) -> Scale:
    """How much is measured of what was asked for: models, recoveries, or both by their names."""
    scale = QUICK if quick else FULL
    compared = tuple(name for name in asked if name in RECOVERIES.names())
    models = tuple(name for name in asked if name not in compared) or scale.models
    steps = scale.steps or _QUICK_STEPS if compared else scale.steps
    return replace(scale, models=models, compared=compared, steps=steps)


def _model_rows(request: Request, scale: Scale, environment: str, model: str) -> Iterator[Row]:
    request.say(f"{model}: data and calibration")
    directory = request.directory / model
    lab = RecoveryLab(request.assets, model, scale.rows, scale.validation, directory)
    control: tuple[Trained, ...] = ()
    if not scale.compared:
        request.say(f"{model}: dense control")
        control = tuple(lab.train({}, {}, _CONTROL, plan) for plan in timed_plans(scale))
    bout = Bout(model, lab, scale, environment, control)
    for spelling in () if scale.compared else BARS:
        make = partial(_one, bout, spelling)
        yield from guarded_rows(request, environment, f"{model}: {spelling}", make)
    if scale.steps:
        for spelling in _COMPARED:
            what = f"{model}: methods at {spelling}"
            yield from guarded_rows(request, environment, what, partial(bout.compared, spelling))


def _one(bout: Bout, spelling: str) -> list[Row]:
    return [bout.level_row(spelling)]


def timed_plans(scale: Scale) -> list[TrainingPlan]:
    """The trainings that are held against bars, a seed each."""
    return [
        TrainingPlan(seconds=scale.seconds, batch_size=64, seed=seed, augment=("flip", "shift"))
        for seed in range(scale.seeds)
    ]


def steps_plan(scale: Scale, seed: int) -> TrainingPlan:
    """A training in which methods are compared: time plays no part."""
    return TrainingPlan(
        seconds=36_000.0, steps=scale.steps, batch_size=64, seed=seed, augment=("flip", "shift")
    )


def interval_text(values: Sequence[float]) -> str:
    """Mean of some seeds with a 95 % interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}, one seed"
    half = _T[len(values) - 1] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f}), {len(values)} seeds"
