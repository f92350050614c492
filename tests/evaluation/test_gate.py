"""The gate: what may be delivered, and which of several is the best."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosparse.evaluation import (
    Budget,
    Comparison,
    Contract,
    Evidence,
    MaxDrop,
    Measurement,
    Verdict,
)
from autosparse.evaluation.gate import best_effort, rank
from autosparse.evaluation.measurement import Block
from autosparse.evaluation.metrics import Floats


def contract(budget: str = "60%", max_drop: str = "1pt", *, strict: bool = False) -> Contract:
    return Contract(
        budget=Budget.parse(budget),
        percentile="p50",
        max_drop=MaxDrop.parse(max_drop),
        strict=strict,
        baseline_seconds=0.010,
        baseline_quality=0.9,
    )


def evidence(
    ratio: float = 0.5,
    drop: float = 0.0,
    *,
    name: str = "recipe",
    ratio_high: float | None = None,
    drop_high: float | None = None,
    divergence: float = 0.1,
    parts: tuple[float, ...] = (),
    layers: int = 3,
    seconds: float | None = None,
    seconds_high: float | None = None,
) -> Evidence:
    """By default without any noise: the bounds are the estimates."""
    return Evidence(
        recipe_id=name,
        latency_ratio=ratio,
        latency_ratio_high=ratio if ratio_high is None else ratio_high,
        drop=drop,
        drop_high=drop if drop_high is None else drop_high,
        divergence=float(np.mean(parts)) if parts else divergence,
        divergence_parts=parts,
        compressed_layers=layers,
        latency_seconds=seconds,
        latency_seconds_high=seconds if seconds_high is None else seconds_high,
    )


@pytest.mark.parametrize(
    ("budget", "ratio"), [("60%", 0.6), ("8ms", 0.8), ("2500us", 0.25), ("20ms", 2.0)]
)
def test_a_budget_becomes_a_share_of_the_baseline(budget: str, ratio: float) -> None:
    assert contract(budget).latency_ratio == pytest.approx(ratio)


@pytest.mark.parametrize(("drop", "allowed"), [("1pt", 0.01), ("1%", 0.009), ("0.02", 0.02)])
def test_a_drop_becomes_a_number_in_the_metrics_unit(drop: str, allowed: float) -> None:
    assert contract(max_drop=drop).allowed_drop() == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("ratio", "drop", "is_inside"),
    [
        (0.6, 0.01, True),
        (0.6000001, 0.0, False),
        (0.5, 0.0100001, False),
        (0.5, 0.01 + 1e-15, True),  # the last bit of a difference of means
        (0.5, -0.3, True),
        (float("nan"), 0.0, False),
        (0.5, float("nan"), False),
    ],
)
def test_both_halves_of_the_contract_must_hold(ratio: float, drop: float, is_inside: bool) -> None:
    assert bool(rank([evidence(ratio, drop)], contract())) == is_inside


@pytest.mark.parametrize("budget", ["200%", "100%", "20ms"])
def test_nothing_slower_than_the_baseline_is_delivered(budget: str) -> None:
    slower, equal = evidence(1.0001, name="slower"), evidence(1.0, name="equal")
    asked = contract(budget)
    assert rank([slower, equal], asked) == [equal]
    assert best_effort([slower, equal], asked) == equal
    assert best_effort([slower], asked) is None


def test_strict_holds_the_contract_at_the_bounds_of_the_intervals() -> None:
    slow = evidence(0.5, 0.0, ratio_high=0.61)
    lossy = evidence(0.5, 0.0, drop_high=0.011)
    sure = evidence(0.59, 0.009, ratio_high=0.6, drop_high=0.01)
    assert len(rank([slow, lossy, sure], contract())) == 3
    assert rank([slow, lossy, sure], contract(strict=True)) == [sure]


@pytest.mark.parametrize(("budget", "met"), [("200%", True), ("100%", True), ("99%", False)])
def test_the_model_as_it_came_is_exactly_as_fast_as_the_baseline(budget: str, met: bool) -> None:
    dense = Evidence.of_baseline("dense", contract())
    assert dense.meets_budget(contract(budget)) is met
    assert dense.meets_budget(contract(budget, strict=True)) is met
    assert dense.meets_drop(contract(max_drop="0", strict=True))


def test_a_dense_model_that_was_lowered_anew_is_held_to_the_rule_like_any_other() -> None:
    anew = evidence(1.003, layers=0, divergence=0.0)
    assert rank([anew], contract("200%")) == []


@pytest.mark.parametrize(
    ("budget", "seconds", "is_inside"),
    [
        ("8ms", None, True),  # a trial: its share of the baseline counts
        ("8ms", 0.008, True),
        ("8ms", 0.0084, False),
        ("80%", 0.0084, True),  # the baseline of that run took longer, too
    ],
)
def test_a_budget_in_time_holds_in_time(
    budget: str, seconds: float | None, is_inside: bool
) -> None:
    assert evidence(0.79, seconds=seconds).meets_budget(contract(budget)) is is_inside


def test_strict_holds_a_time_at_the_bound_of_its_own_interval() -> None:
    doubtful = evidence(0.79, seconds=0.0079, seconds_high=0.0081)
    assert doubtful.meets_budget(contract("8ms"))
    assert not doubtful.meets_budget(contract("8ms", strict=True))


def measured(label: str, seconds: float) -> Measurement:
    blocks = tuple(
        Block(samples_seconds=(seconds * wobble,) * 3, slowdown=0.0, accepted=True)
        for wobble in (0.999, 1.0, 1.001, 1.0)
    )
    return Measurement(
        label=label, file_sha256="", target="", environment="", warmup_runs=0, blocks=blocks
    )


@pytest.mark.parametrize(
    ("budget", "baseline", "seconds", "is_missed"),
    [
        ("60%", 0.010, 0.0065, True),
        ("60%", 0.010, 0.0060, False),
        ("6ms", 0.010, 0.0065, True),
        # resolved when the machine was slower: 65 % of today's baseline is no longer than 6 ms
        ("6ms", 0.009, 0.0059, False),
        ("20ms", 0.010, 0.0105, True),  # slower than the model as it came
    ],
)
def test_a_budget_is_out_of_reach_only_where_a_time_is_missed_as_a_time(
    budget: str, baseline: float, seconds: float, is_missed: bool
) -> None:
    pair = Comparison(baseline=measured("baseline", baseline), candidate=measured("it", seconds))
    assert contract(budget).surely_missed_by(pair) is is_missed


def test_strict_never_ships_what_may_be_slower_than_the_baseline() -> None:
    doubtful = evidence(0.99, ratio_high=1.01)
    assert rank([doubtful], contract("200%")) == [doubtful]
    assert rank([doubtful], contract("200%", strict=True)) == []


def test_the_most_accurate_comes_first_then_the_faster_then_the_simpler() -> None:
    accurate = evidence(0.60, 0.000, layers=9, name="accurate")
    fast = evidence(0.30, 0.005, layers=9, name="fast")
    simple = evidence(0.40, 0.005, layers=2, name="simple")
    plain = evidence(0.40, 0.005, layers=5, name="plain")
    wanted = [accurate, fast, simple, plain]
    for order in itertools.permutations(wanted):
        assert rank(order, contract()) == wanted


def test_drops_inside_the_noise_are_told_apart_by_the_divergence() -> None:
    best = evidence(0.5, 0.000, drop_high=0.004, divergence=0.5, name="lucky")
    near = evidence(0.5, 0.003, drop_high=0.007, divergence=0.1, name="near")
    far = evidence(0.5, 0.006, drop_high=0.010, divergence=0.0, name="far")
    assert rank([best, near, far], contract()) == [near, best, far]


# parts of rows, some harder than others for every file
PARTS = np.array([0.02, 0.30, 0.05, 0.11, 0.08, 0.40, 0.03, 0.21])
WOBBLE = np.array([1.02, 0.98, 1.03, 0.97, 0.99, 1.01, 1.02, 0.98])


def of_rows(parts: Floats, ratio: float, name: str, **more: Any) -> Evidence:
    return evidence(ratio, parts=tuple(parts), name=name, **more)


def test_files_that_the_rows_do_not_tell_apart_go_by_their_speed() -> None:
    nearest = of_rows(PARTS, 0.59, "nearest")
    alike = of_rows(PARTS * WOBBLE + 1.2e-3, 0.40, "alike")
    # one percent, but on every part of the rows
    worse = of_rows(PARTS * 1.01, 0.20, "worse")
    for order in itertools.permutations([nearest, alike, worse]):
        assert [e.recipe_id for e in rank(order, contract())] == ["alike", "nearest", "worse"]


def test_files_that_are_as_fast_go_by_their_simplicity() -> None:
    fastest = of_rows(PARTS, 0.400, "fastest", ratio_high=0.405, layers=9)
    simple = of_rows(PARTS * WOBBLE + 1.2e-3, 0.404, "simple", layers=2)
    slower = of_rows(PARTS * WOBBLE + 1.2e-3, 0.406, "slower", layers=1)
    for order in itertools.permutations([fastest, simple, slower]):
        assert [e.recipe_id for e in rank(order, contract())] == ["simple", "fastest", "slower"]


def test_what_is_alike_is_alike_to_the_nearest_and_not_in_chains() -> None:
    """The third is not told from the second, nor that from the first; but the third from it."""
    signs = np.array([1, -1, 1, -1, 1, -1, 1, -1])
    first = of_rows(PARTS, 0.5, "first")
    second = of_rows(PARTS + 0.002 + 0.01 * signs, 0.4, "second")
    third = of_rows(PARTS + 0.004 + 0.0005 * signs, 0.3, "third")
    assert not third.is_further_than(second)
    for order in itertools.permutations([first, second, third]):
        assert [e.recipe_id for e in rank(order, contract())] == ["second", "first", "third"]


def test_answers_that_are_no_numbers_are_alike_to_nothing() -> None:
    broken = of_rows(PARTS * np.nan, 0.1, "broken")
    sound = of_rows(PARTS, 0.5, "sound")
    for order in itertools.permutations([broken, sound]):
        assert [e.recipe_id for e in rank(order, contract())] == ["sound", "broken"]


def test_on_too_few_rows_the_divergence_itself_decides() -> None:
    near, far = of_rows(PARTS[:3], 0.5, "near"), of_rows(PARTS[:3] * WOBBLE[:3] + 0.01, 0.1, "far")
    assert rank([far, near], contract()) == [near, far]


def test_the_best_effort_is_the_nearest_to_the_contract() -> None:
    late = evidence(0.66, 0.0, name="late")  # 10 % over the bound
    lossy = evidence(0.5, 0.02, name="lossy")  # twice the allowed drop
    both = evidence(0.63, 0.0105, name="both")  # 5 % over each
    assert best_effort([late, lossy, both], contract()) == late
    assert best_effort([lossy, both], contract()) == both
    assert best_effort([], contract()) is None


def test_among_equally_near_ones_the_more_accurate_is_the_best_effort() -> None:
    worse, better = evidence(0.5, 0.009), evidence(0.5, 0.001)
    assert best_effort([worse, better], contract()) == better


def test_without_any_allowed_drop_violations_stay_finite() -> None:
    assert evidence(0.5, 0.001).violation(contract(max_drop="0")) == pytest.approx(1.0)


finite = st.floats(min_value=-1, max_value=2)


@given(
    st.lists(st.builds(evidence, finite.map(lambda r: abs(r) + 0.01), finite), max_size=8),
    st.sampled_from(["1%", "60%", "300%", "5ms"]),
    st.booleans(),
)
def test_whatever_is_ranked_keeps_the_contract(
    found: list[Evidence], budget: str, strict: bool
) -> None:
    asked = contract(budget, strict=strict)
    ranked = rank(found, asked)
    assert all(e.latency_ratio <= min(asked.latency_ratio, 1.0) for e in ranked)
    assert all(e.drop <= asked.allowed_drop() + 1e-12 for e in ranked)
    assert all(e.violation(asked) <= 1e-9 for e in ranked)
    assert len(ranked) == sum(
        e.latency_ratio <= min(asked.latency_ratio, 1.0) and e.drop <= asked.allowed_drop() + 1e-12
        for e in found
    )


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.MET, 0),
        (Verdict.LATENCY_INFEASIBLE, 3),
        (Verdict.NOT_FOUND, 4),
        (Verdict.SIMULATED, 4),
    ],
)
def test_every_verdict_has_its_exit_code(verdict: Verdict, code: int) -> None:
    assert verdict.exit_code == code
    assert len(Verdict) == 4
    assert [v for v in Verdict if v.exit_code == 0] == [Verdict.MET]
