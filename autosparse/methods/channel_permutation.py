"""Idea: order channels so that N:M groups hold few large weights each.

Source: Pool and Yu 2021, "Channel Permutations for N:M Sparsity" (NeurIPS 2021).
Helps when: a layer becomes 2:4 or 1:4, and large weights crowd in some groups.
Does nothing when: nobody asks for N:M, or channels are added to others on the way, as between the
blocks of a residual network.
Cost: some hundred exchanges of channels for each pair of layers; no data. The model computes the
same.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from autosparse.levels import NM
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    ChannelPair,
    Order,
    reading_rows,
    unchanged,
)
from autosparse.model_graph.graph import FloatArray

PATTERN = NM(nonzeros=2, group=4)
_SWEEPS, _MOST_PAIRS = 8, 4000


def retained(sizes: FloatArray, pattern: NM = PATTERN) -> float:
    """Sum of what a pattern keeps at most.

    Args:
        sizes: (rows, channels), not negative; channels are a multiple of M.
        pattern: N and M.
    """
    groups = sizes.reshape(len(sizes), -1, pattern.group)
    return float(np.sort(groups, axis=-1)[..., -pattern.nonzeros :].sum())


def best_order(sizes: FloatArray, seed: int = 0, pattern: NM = PATTERN) -> Order:
    """Share channels out to groups, two groups at a time, until no two can do better.

    Args:
        sizes: (rows, channels), not negative; channels are a multiple of M.
        seed: of the order in which groups meet.
        pattern: N and M.

    Returns:
        (channels,): the channel that comes to each place; `retained` is never less with it.
    """
    draw = np.random.default_rng(seed)
    order = np.arange(sizes.shape[1]).reshape(-1, pattern.group)
    splits = _splits(pattern.group)
    for _ in range(_SWEEPS):
        meetings = list(combinations(range(len(order)), 2))
        chosen = draw.permutation(len(meetings))[:_MOST_PAIRS]
        improved = False
        for first, second in (meetings[i] for i in chosen):
            both = np.concatenate([order[first], order[second]])
            kept = np.sort(sizes[:, both[splits]], axis=-1)[..., -pattern.nonzeros :]
            worth = kept.sum(axis=(0, 2, 3))
            best = int(worth.argmax())
            # the first split is the one that is
            if worth[best] > worth[0] * (1.0 + 1e-6):
                order[[first, second]] = both[splits[best]]
                improved = True
        if not improved:
            break
    return order.flatten()


def _splits(size: int) -> Order:
    """(splits, 2, M): every way to divide the channels of two groups, the present one first."""
    every = range(2 * size)
    halves = [(0, *rest) for rest in combinations(range(1, 2 * size), size - 1)]
    return np.array([[half, [i for i in every if i not in half]] for half in halves])


def permuted(graph: ModelGraph, pair: ChannelPair) -> ChannelChange:
    """The change of one pair; none where its channels do not divide into groups.

    A normalization cannot reorder what it is given, so its channels stay, too.
    """
    if pair.channels % PATTERN.group or pair.is_norm or pair.channels == PATTERN.group:
        return unchanged(pair)
    sizes = np.concatenate([np.abs(rows) for rows in reading_rows(graph, pair)])
    plain = unchanged(pair)
    return ChannelChange(pair, plain.scale, best_order(sizes))
