"""What a trial costs in the durable study, and a proposal of a strategy, late in a long search."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import optuna

from autosparse.evaluation import (
    Budget,
    Comparison,
    Contract,
    Evidence,
    Interval,
    MaxDrop,
    Measurement,
    Quality,
)
from autosparse.evaluation.measurement import Block
from autosparse.journal import Journal
from autosparse.levels import Level, Recipe
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.recipe_timing import TRIAL_TIMING
from autosparse.pipeline.records import MeasuredTrial, TrialRecord
from autosparse.search.strategies import STRATEGIES
from autosparse.search.strategy import LATENCY_CONSTRAINT
from benchmarks.planted_tables import PLANTED
from benchmarks.rows import Row

_LAYERS, _LAST = 56, 200
_MOST_BYTES, _MOST_SECONDS = 30_000, 0.005
_ASKED = 20
_CONTRACT = Contract(
    budget=Budget(amount=60.0, unit="%"), percentile="p50", max_drop=MaxDrop(amount=1.0, unit="pt"),
    strict=False, baseline_seconds=1e-3, baseline_quality=0.9,
)  # fmt: skip


def overhead_rows(directory: Path, trials: int, environment: str) -> Iterator[Row]:
    """Bytes and seconds of the last trials written, and of asking and telling after them all."""
    path = directory / f"ledger-{trials}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    ledger = Ledger(path)
    taken, computing = np.empty(trials), time.process_time()
    for number in range(trials):
        record = _record(number)
        started = time.perf_counter()
        ledger.append(record, _CONTRACT)
        taken[number] = time.perf_counter() - started
    computing = (time.process_time() - computing) / trials
    size = path.stat().st_size / trials
    yield Row(
        what=f"durable study: size of a trial, {_LAYERS} layers", figure=size / 1000, unit="kB",
        bar=f"<= {_MOST_BYTES / 1000:g} kB", holds=size <= _MOST_BYTES, environment=environment,
        note=f"{trials} trials",
    )  # fmt: skip
    late = float(np.median(taken[-_LAST:]))
    yield Row(
        what="durable study: writing a trial", figure=1e3 * late, unit="ms",
        bar=f"<= {1e3 * _MOST_SECONDS:g} ms", holds=late <= _MOST_SECONDS, environment=environment,
        note=f"median of the last {min(_LAST, trials)} of {trials}, of the first "
        f"{1e3 * float(np.median(taken[:_LAST])):.2f} ms; {1e3 * computing:.2f} ms of processor",
    )  # fmt: skip
    yield from _raw_rows(directory, environment)
    started = time.perf_counter()
    count = len(Ledger(path).records)
    yield Row(
        what="durable study: opening it again", figure=time.perf_counter() - started, unit="s",
        environment=environment, note=f"{count} trials",
    )  # fmt: skip
    for name in STRATEGIES.names():
        yield _asking_row(name, trials, environment)


def _raw_rows(directory: Path, environment: str) -> Iterator[Row]:
    """The raw samples of a trial, which lie beside the study: as many as there can be."""
    path = directory / "measurements.jsonl"
    path.unlink(missing_ok=True)
    journal, taken = Journal(path, MeasuredTrial), []
    for number in range(_LAST):
        measured = _measured(number)
        started = time.perf_counter()
        journal.append(measured)
        taken.append(time.perf_counter() - started)
    size = path.stat().st_size / _LAST
    yield Row(
        what="raw samples of a trial: size", figure=size / 1000, unit="kB",
        bar=f"<= {_MOST_BYTES / 1000:g} kB", holds=size <= _MOST_BYTES, environment=environment,
        note=f"{TRIAL_TIMING.rounds} rounds of two files, 200 samples in each block",
    )  # fmt: skip
    seconds = float(np.median(taken))
    yield Row(
        what="raw samples of a trial: writing", figure=1e3 * seconds, unit="ms",
        bar=f"<= {1e3 * _MOST_SECONDS:g} ms", holds=seconds <= _MOST_SECONDS,
        environment=environment, note=f"median of {_LAST}",
    )  # fmt: skip


def _measured(number: int) -> MeasuredTrial:
    rng = np.random.default_rng(number)

    def measurement(label: str) -> Measurement:
        blocks = tuple(
            Block(
                samples_seconds=tuple(np.round(rng.uniform(1e-4, 1.1e-4, 200), 9).tolist()),
                slowdown=round(float(rng.uniform(0.0, 0.05)), 6), accepted=True, interruptions=0,
            )
            for _ in range(TRIAL_TIMING.rounds)
        )  # fmt: skip
        return Measurement(
            label=label, file_sha256="0" * 64, target="local-cpu", environment="0" * 12,
            warmup_runs=2, blocks=blocks, peak_memory_bytes=5_000_000,
        )  # fmt: skip

    comparison = Comparison(baseline=measurement("baseline"), candidate=measurement("0" * 12))
    return MeasuredTrial(recipe_id="0" * 12, comparison=comparison)


def _asking_row(name: str, trials: int, environment: str) -> Row:
    """Ask and tell in memory after so many candidates: no bar, a candidate's data cost more."""
    planted = PLANTED["whole budget"](0)
    table, rng = planted.table, np.random.default_rng(0)
    strategy = STRATEGIES.load(name)
    study = optuna.create_study(
        directions=["minimize"] * strategy.objectives,
        sampler=strategy.sampler(table.context(planted.bound, 0)),
    )
    space = dict(table.space.distributions())

    def values(point: Mapping[str, int]) -> list[float]:
        return [table.divergence(point), table.latency(point)][: strategy.objectives]

    for _ in range(trials):
        point = {layer: int(rng.integers(d.high + 1)) for layer, d in space.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=point, distributions=dict(space), values=values(point),
                constraints={LATENCY_CONSTRAINT: table.latency(point) / planted.bound - 1.0},
            )
        )  # fmt: skip
    taken = []
    for _ in range(_ASKED):
        started = time.perf_counter()
        trial = study.ask(fixed_distributions=dict(space))
        trial.set_constraint(LATENCY_CONSTRAINT, table.latency(trial.params) / planted.bound - 1.0)
        study.tell(trial, values(trial.params))
        taken.append(time.perf_counter() - started)
    return Row(
        what=f"{name}: ask and tell in memory", figure=1e3 * float(np.median(taken[1:])), unit="ms",
        environment=environment,
        note=f"after {trials} candidates, {len(space)} layers; the first took "
        f"{1e3 * taken[0]:.0f} ms",
    )  # fmt: skip


def _record(number: int) -> TrialRecord:
    """A trial like those of a search, each with a recipe of its own."""
    levels = ("dense:fp32", "dense:int8+gptq", "block1x4@0.75:int8+sparsegpt")
    recipe = Recipe(
        model_sha256="0" * 64,
        levels={
            f"stage{layer // 18}.block{layer // 2}.conv{layer % 2}": Level.parse(
                levels[(number // 3 ** (layer % 12)) % 3]
            )
            for layer in range(_LAYERS)
        },
    )
    ratio = 0.4 + 0.5 * (number % 997) / 997
    return TrialRecord(
        recipe=recipe,
        evidence=Evidence(
            recipe_id=recipe.id, latency_ratio=ratio, latency_ratio_high=ratio + 0.01,
            drop=0.004, drop_high=0.006, divergence=0.02 * (1 + number % 13), compressed_layers=40,
            size_bytes=410_000 + number, peak_memory_bytes=2_300_000 + number,
        ),
        quality=Quality(
            metric="top1", rows=1500, baseline_value=0.9, value=0.896, drop=0.004,
            drop_interval=Interval(low=0.002, high=0.006),
        ),
        latency_seconds=1e-3 * ratio,
        baseline_seconds=1e-3,
        environment="0" * 12,
        proposed_by="auto",
        seconds_since_start=float(number),
        baseline_size_bytes=1_096_220,
        baseline_peak_memory_bytes=4_000_000,
    )  # fmt: skip
