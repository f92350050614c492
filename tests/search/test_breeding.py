"""Offspring: inside the bound, different from their parents, and with the budget spent."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.search.breeding import Breeder
from autosparse.search.chain import Chain

LAYERS, LEVELS = 6, 4
BOUND = 0.55


@pytest.fixture
def breeder() -> Breeder:
    rng = np.random.default_rng(2)
    alone = -np.sort(rng.uniform(0.0, 0.14, size=(LAYERS, LEVELS)), axis=1)
    alone[:, 0] = 0.0
    errors = np.sort(rng.uniform(0.0, 1.0, size=(LAYERS, LEVELS)), axis=1)
    errors[:, 0] = 0.0
    alone[0, 3] = np.inf
    errors[0, 3] = np.inf
    names = tuple(f"layer.{index}" for index in range(LAYERS))
    joint = 0.02 * rng.random((LAYERS - 1, LEVELS, LEVELS))
    return Breeder(Chain(names, 1.0, alone, joint), errors)


def brood(breeder: Breeder, count: int = 200, bound: float = BOUND) -> np.ndarray:
    parents = np.tile([2, 3, 3, 3, 3, 3], (count, 1))
    return breeder.brood(parents, np.full(count, bound), np.random.default_rng(0))


def test_every_child_is_inside_and_a_point_of_the_space(breeder: Breeder) -> None:
    children = brood(breeder)
    assert len(children) > 100
    assert (breeder.chain.of(children) <= BOUND).all()
    assert np.isfinite(breeder.errors[np.arange(LAYERS), children]).all()
    assert children.min() >= 0


def test_children_differ(breeder: Breeder) -> None:
    assert len(np.unique(brood(breeder), axis=0)) > 20


def test_most_children_have_no_latency_left_that_one_layer_could_use(breeder: Breeder) -> None:
    children = brood(breeder)
    added = breeder.chain.changes(children)
    layers = np.arange(LAYERS)
    gain = breeder.errors[layers, children][:, :, None] - breeder.errors
    left = BOUND - breeder.chain.of(children)
    improvable = ((gain > 0) & (added <= left[:, None, None])).any(axis=(1, 2))
    assert improvable.mean() < 0.5


def test_a_bound_out_of_reach_has_no_children(breeder: Breeder) -> None:
    assert len(brood(breeder, bound=0.05)) == 0


def test_changes_are_what_the_changed_point_costs(breeder: Breeder) -> None:
    rng = np.random.default_rng(1)
    points = rng.integers(0, 3, size=(5, LAYERS))
    added = breeder.chain.changes(points)
    before = breeder.chain.of(points)
    for layer in range(1, LAYERS):
        for level in range(LEVELS):
            changed = points.copy()
            changed[:, layer] = level
            np.testing.assert_allclose(added[:, layer, level], breeder.chain.of(changed) - before)


def test_the_same_random_choices_give_the_same_brood(breeder: Breeder) -> None:
    np.testing.assert_array_equal(brood(breeder), brood(breeder))
