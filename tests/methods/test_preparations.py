"""Weights that compute the same and compress better: each choice by hand, and what it gains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autosparse.levels import NM, Level
from autosparse.levels.masks import project
from autosparse.methods.channel_permutation import best_order, ordered_for, permuted, retained
from autosparse.methods.equalization import equal_ranges, equalized
from autosparse.methods.smoothing import smoothed, smoothing_factors
from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.channel_pairs import changed, channel_pairs, making_rows, reading_rows
from tests.models import Net, block_with_norm

TWO_OF_FOUR = NM(nonzeros=2, group=4)


@pytest.fixture
def crowded(tmp_path: Path) -> ModelGraph:
    """Two layers; the second one's large weights crowd in every other group, and ranges differ."""
    net = Net(seed=4)
    x = net.input("x", "batch", 8)
    up = net.rng.standard_normal((32, 8)) * np.exp(net.rng.standard_normal((32, 1)) * 1.5)
    down = net.rng.standard_normal((16, 32)) * np.where(np.arange(32) % 8 < 4, 3.0, 0.1)
    first = net.node("Gemm", x, net.constant("up.weight", up.astype(np.float32)), name="up",
                     transB=1)  # fmt: skip
    hidden = net.node("Relu", first, name="relu")
    net.node("Gemm", hidden, net.constant("down.weight", down.astype(np.float32)), name="down",
             to="y", transB=1)  # fmt: skip
    return load_model(net.save(tmp_path / "net.onnx", "y"))


def test_equal_ranges_by_hand() -> None:
    found = equal_ranges(np.array([4.0, 1.0, 0.0]), np.array([1.0, 9.0, 2.0]))
    assert found.tolist() == [0.5, 3.0, 1.0]


@pytest.mark.checks("equalize")
def test_both_sides_have_one_range_afterwards(crowded: ModelGraph) -> None:
    (pair,) = channel_pairs(crowded)
    other = changed(crowded, {pair.name: equalized(crowded, pair)})
    making = np.abs(making_rows(other, pair)).max(axis=1)
    reading = np.abs(next(reading_rows(other, pair))).max(axis=0)
    assert np.allclose(making, reading, rtol=1e-4)
    assert _precision(other) > 1.2 * _precision(crowded)


def _precision(graph: ModelGraph) -> float:
    """The paper's measure: how much of the whole range each channel uses, on both sides."""
    (pair,) = channel_pairs(graph)
    making = np.abs(making_rows(graph, pair)).max(axis=1)
    reading = np.abs(next(reading_rows(graph, pair))).max(axis=0)
    return float((making / making.max() * reading / reading.max()).sum())


def test_smoothing_by_hand() -> None:
    """The factors 4 and 1/4 come as 4 and 1/4: their mean is 1 already; what is dead stays."""
    found = smoothing_factors(np.array([16.0, 1.0, 0.0]), np.array([1.0, 16.0, 1.0]))
    assert np.allclose(found, [4.0, 0.25, 1.0])


@pytest.mark.checks("smooth")
def test_activations_behind_a_normalization_are_evened_out(tmp_path: Path) -> None:
    graph = load_model(block_with_norm().save(tmp_path / "block.onnx", "y"))
    norm, inner = channel_pairs(graph)
    activations = np.array([100.0, *[1.0] * 7], np.float32)
    change = smoothed(graph, norm, activations)
    after = activations * change.scale
    assert after.max() / after.min() < 0.5 * activations.max() / activations.min()
    assert np.all(smoothed(graph, inner, np.ones(16, np.float32)).scale == 1.0)


def test_an_order_by_hand() -> None:
    """Four large channels in one group and four small ones in the other: two and two keep all."""
    sizes = np.array([[9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0]])
    assert retained(sizes, TWO_OF_FOUR) == 20.0
    order = best_order(sizes, TWO_OF_FOUR)
    assert sorted(order.tolist()) == list(range(8))
    assert retained(sizes[:, order], TWO_OF_FOUR) == 36.0


def test_groups_of_eight_exchange_channel_by_channel() -> None:
    """Eight large channels crowd in one of two groups; 4:8 keeps all of them where four moved."""
    pattern = NM(nonzeros=4, group=8)
    sizes = np.array([[9.0] * 8 + [1.0] * 8])
    assert retained(sizes, pattern) == 40.0
    order = best_order(sizes, pattern)
    assert sorted(order.tolist()) == list(range(16))
    assert retained(sizes[:, order], pattern) == 72.0


def test_an_order_is_for_the_sparsest_pattern_that_is_asked_for() -> None:
    levels = ["dense:int8", "2:4:int8", "1:4:int8", "2:8:int8", "unstructured@0.95:fp32"]
    assert ordered_for(map(Level.parse, levels)) == NM(nonzeros=2, group=8)
    assert ordered_for(map(Level.parse, levels[:2])) == TWO_OF_FOUR
    assert ordered_for(map(Level.parse, levels[:1])) is None


def test_another_pattern_wants_another_order() -> None:
    """2:4 keeps the largest two in one group, 1:4 wants them apart."""
    sizes = np.array([[9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0]])
    one_of_four = NM(nonzeros=1, group=4)
    of_two, of_one = (best_order(sizes, pattern) for pattern in (TWO_OF_FOUR, one_of_four))
    assert retained(sizes[:, of_two], TWO_OF_FOUR) == 30.0
    assert retained(sizes[:, of_two], one_of_four) == 16.0
    assert retained(sizes[:, of_one], one_of_four) == 17.0


@pytest.mark.checks("permute")
def test_permuted_channels_keep_more_under_n_m(crowded: ModelGraph) -> None:
    (pair,) = channel_pairs(crowded)
    other = changed(crowded, {pair.name: permuted(crowded, pair, TWO_OF_FOUR)})
    before, after = (_kept_by_two_of_four(graph) for graph in (crowded, other))
    assert after > 1.2 * before
    # the best that any order could do keeps the larger half of every row
    weight = np.sort(np.abs(crowded.constant("down.weight")), axis=1)
    assert after > 0.9 * weight[:, 16:].sum()


def _kept_by_two_of_four(graph: ModelGraph) -> float:
    weight = torch.tensor(graph.constant("down.weight"))
    return float((weight.abs() * project(weight.abs(), TWO_OF_FOUR)).sum())
