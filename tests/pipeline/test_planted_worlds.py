"""The whole job in worlds whose right answer is known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.errors import ConfigError, MeasurementError
from autosparse.evaluation import LoweredModel, Verdict
from autosparse.journal import Journal
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from autosparse.search.strategies import STRATEGIES
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.fakes.fake_lane import Killed
from tests.pipeline.worlds import World, layer_seconds, summed_error

OUTLIERS = {"layer1": 0.5, "layer4": 0.4}


def delivered(world: World) -> Recipe:
    return Recipe.load(world.root / "out" / "bundle" / "recipe.yaml")


def in_fp32(recipe: Recipe) -> set[str]:
    return {name for name, level in recipe.levels.items() if level == BASELINE}


@pytest.mark.parametrize("strategy", STRATEGIES.names())
def test_layers_that_int8_ruins_stay_in_fp32(tmp_path: Path, strategy: str) -> None:
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error(OUTLIERS)))
    result = world.run(strategy=strategy, latency_budget="61%", trials=25)
    assert result.verdict is Verdict.MET
    # 61 % leaves room for two layers in fp32, and only these two make it accurate
    assert in_fp32(delivered(world)) == set(OUTLIERS)


def test_the_answer_is_the_best_of_all_recipes(tmp_path: Path) -> None:
    errors = {f"layer{i}": e for i, e in enumerate((0.01, 0.2, 0.03, 0.15, 0.02, 0.08))}
    planted = Planted(layer_seconds, summed_error(errors))
    world = World.make(tmp_path, 6, planted)
    result = world.run(latency_budget="75%", max_drop="50pt")
    int8 = Level.parse("dense:int8")
    every = [
        dict(zip(world.layers, chosen, strict=True))
        for chosen in itertools.product((BASELINE, int8), repeat=6)
    ]
    bound = 0.75 * planted.latency(dict.fromkeys(world.layers, BASELINE))
    best = min((e for e in every if planted.latency(e) <= bound), key=planted.error)
    assert result.verdict is Verdict.MET
    assert planted.error(delivered(world).levels) == pytest.approx(planted.error(best))


def test_what_is_measured_outside_the_space_does_not_stand_for_a_recipe_inside(
    tmp_path: Path,
) -> None:
    """Plain INT8 is rounded, also where the space keeps the weights of a better method."""

    def error(levels: Levels) -> float:
        costs = {"round_to_nearest": 0.02, "gptq": 0.01}
        return sum(
            costs.get(level.method or "", 0.02) for level in levels.values() if is_int8(level)
        )

    world = World.make(tmp_path, 2, Planted(layer_seconds, error))
    world.run(latency_budget="90%", max_drop="50pt")
    trials = [record.recipe for record in Ledger(Workspace(tmp_path / "out").study).records]
    outside = [r for r in trials if "round_to_nearest" in {x.method for x in r.levels.values()}]
    assert len(outside) == 1
    inside = [in_fp32(recipe) for recipe in trials if recipe not in outside]
    first, second = world.layers
    assert sorted(map(sorted, inside)) == [[], [first], [first, second], [second]]


def test_a_trial_keeps_what_tells_it_from_others(tmp_path: Path) -> None:
    world = World.make(tmp_path, 5, Planted(layer_seconds, summed_error({})))
    world.run(trials=4)
    for record in Ledger(Workspace(tmp_path / "out").study).records:
        parts = record.evidence.divergence_parts
        assert len(parts) == 32
        # the parts of 100 rows are equal but for one row
        assert np.mean(parts) == pytest.approx(record.evidence.divergence, rel=0.2)


def test_a_budget_below_the_fastest_recipe_is_infeasible_at_once(tmp_path: Path) -> None:
    world = World.make(tmp_path, 5, Planted(layer_seconds, summed_error({})))
    result = world.run(latency_budget="30%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert result.exit_code == 3
    assert result.manifest.fastest is not None
    assert result.manifest.fastest.latency_ratio == pytest.approx(0.4)
    assert result.manifest.offers[0].latency_ratio == pytest.approx(0.4)
    assert result.manifest.search.trials <= 5


def test_the_fastest_recipe_may_keep_a_layer_in_fp32(tmp_path: Path) -> None:
    """The table's seconds say int8 everywhere; whole files say otherwise, and they decide."""

    def joint(levels: Levels) -> float:
        return 80e-6 if is_int8(levels["layer0"]) else 0.0

    planted = Planted(layer_seconds, summed_error({}), joint_seconds=joint)
    world = World.make(tmp_path, 5, planted)
    result = world.run(latency_budget="53%")
    assert result.verdict is Verdict.MET
    assert in_fp32(delivered(world)) == {"layer0"}


def test_quality_out_of_reach_is_not_found_and_the_nearest_is_delivered(tmp_path: Path) -> None:
    errors = dict.fromkeys((f"layer{i}" for i in range(5)), 0.6)
    world = World.make(tmp_path, 5, Planted(layer_seconds, summed_error(errors)))
    result = world.run(latency_budget="50%", max_drop="0.1pt", trials=12)
    assert result.verdict is Verdict.NOT_FOUND
    assert result.exit_code == 4
    assert result.manifest.offers
    assert result.manifest.latency.ratio <= 1.0
    assert check_bundle(Path(result.bundle)).verdict is Verdict.NOT_FOUND
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert "The budget can be met" in report


def test_nothing_slower_than_the_baseline_is_ever_delivered(tmp_path: Path) -> None:
    def slow_int8(name: str, level: Level) -> float:
        return 150e-6 if is_int8(level) else 100e-6

    world = World.make(tmp_path, 4, Planted(slow_int8, summed_error({})))
    result = world.run(latency_budget="200%", trials=10)
    assert result.verdict is Verdict.MET
    assert in_fp32(delivered(world)) == set(world.layers)


def test_a_recipe_that_cannot_be_lowered_is_recorded_and_the_search_goes_on(
    tmp_path: Path,
) -> None:
    def broken(levels: Levels) -> str:
        ruined = is_int8(levels["layer1"]) and is_int8(levels["layer2"])
        uniform = all(is_int8(level) for level in levels.values())
        return "layer1 and layer2 do not fit together" if ruined and not uniform else ""

    planted = Planted(layer_seconds, summed_error({}), broken=broken)
    world = World.make(tmp_path, 5, planted)
    result = world.run(latency_budget="70%")
    assert result.verdict is Verdict.MET
    log = Journal(Workspace(tmp_path / "out").candidates, CandidateRecord)
    failed = [record for record in log.records if record.rung is Rung.FAILED]
    assert failed
    assert all("do not fit together" in record.reason for record in failed)


def test_a_failed_measurement_costs_one_candidate(tmp_path: Path) -> None:
    world = World.make(tmp_path, 5, Planted(layer_seconds, summed_error({})))
    calls = itertools.count()

    def every_seventh(files: Mapping[str, LoweredModel]) -> None:
        call = next(calls)
        if call and call % 7 == 0:
            raise MeasurementError("planted: the process crashed")

    result = world.run(engines=world.engines(fail=every_seventh))
    assert result.verdict is Verdict.MET


def test_an_unexpected_error_ends_the_search(tmp_path: Path) -> None:
    """Only what is known to be one candidate's failure is one: anything else is our bug."""
    world = World.make(tmp_path, 5, Planted(layer_seconds, summed_error({})))
    calls = itertools.count()

    def bug(files: Mapping[str, LoweredModel]) -> None:
        if next(calls) == 12:
            raise KeyError("a bug of ours")

    with pytest.raises(KeyError):
        world.run(engines=world.engines(fail=bug))


@pytest.mark.parametrize("killed_at", [0, 2, 5, 9, 14])
def test_a_killed_job_resumes_and_repeats_no_finished_trial(tmp_path: Path, killed_at: int) -> None:
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error(OUTLIERS)))
    calls = itertools.count()

    def kill(files: Mapping[str, LoweredModel]) -> None:
        if next(calls) == killed_at:
            raise Killed

    with pytest.raises(Killed):
        world.run(engines=world.engines(fail=kill), latency_budget="61%")
    study = Workspace(tmp_path / "out").study
    finished = [r.recipe.id for r in Ledger(study).records] if study.exists() else []
    result = world.run(resume=True, latency_budget="61%")
    assert result.verdict is Verdict.MET
    assert in_fp32(delivered(world)) == set(OUTLIERS)
    all_trials = [r.recipe.id for r in Ledger(study).records]
    assert all_trials[: len(finished)] == finished
    assert len(all_trials) == len(set(all_trials))


def test_the_same_seed_and_evidence_give_the_same_recipe(tmp_path: Path) -> None:
    errors = {f"layer{i}": 0.01 * (i + 1) for i in range(7)}
    answers = set()
    for run in ("a", "b"):
        world = World.make(tmp_path / run, 7, Planted(layer_seconds, summed_error(errors)))
        world.run(latency_budget="65%", trials=8)
        answers.add(tuple(sorted(in_fp32(delivered(world)))))
    assert len(answers) == 1


def test_excluded_and_kept_layers_are_as_asked(tmp_path: Path) -> None:
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error({})))
    result = world.run(latency_budget="75%", exclude=("layer0$",), keep=("layer[23]=dense:int8",))
    levels = delivered(world).levels
    assert result.verdict is Verdict.MET
    assert levels["layer0"] == BASELINE
    assert is_int8(levels["layer2"])
    assert is_int8(levels["layer3"])


def test_a_layer_that_is_excluded_and_kept_is_refused(tmp_path: Path) -> None:
    world = World.make(tmp_path, 3, Planted(layer_seconds, summed_error({})))
    with pytest.raises(ConfigError) as caught:
        world.run(exclude=("name:layer0",), keep=("layer[01]=dense:int8",))
    for said in ("layer layer0", "--exclude 'name:layer0'", "--keep 'layer[01]=dense:int8'"):
        assert said in str(caught.value)
    assert caught.value.hint is not None
    assert '--keep "name:layer0=dense:fp32"' in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_layer_that_is_excluded_may_be_kept_as_it_came(tmp_path: Path) -> None:
    world = World.make(tmp_path, 3, Planted(layer_seconds, summed_error({})))
    kept = ("layer[01]=dense:int8", "name:layer0=dense:fp32")
    world.run(latency_budget="80%", trials=3, exclude=("name:layer0",), keep=kept)
    assert delivered(world).levels["layer0"] == BASELINE
    assert is_int8(delivered(world).levels["layer1"])


def test_noise_does_not_change_the_verdict(tmp_path: Path) -> None:
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error(OUTLIERS)))
    result = world.run(engines=world.engines(noise=0.02), latency_budget="64%", trials=25)
    assert result.verdict is Verdict.MET
    assert in_fp32(delivered(world)) == set(OUTLIERS)
