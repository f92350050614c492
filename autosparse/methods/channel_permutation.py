"""Idea: order channels so that N:M groups hold few large weights each.

Source: Pool and Yu 2021, "Channel Permutations for N:M Sparsity" (NeurIPS 2021).
Helps when: a layer becomes 2:4 or 1:4, and large weights crowd in some groups.
Does nothing when: nobody asks for N:M, or channels are added to others on the way, as between the
blocks of a residual network. A model has one order: where several patterns are asked for, it is
that of the sparsest, which removes most.
Cost: some hundred exchanges of channels for each pair of layers; no data. The model computes the
same.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np

from autosparse.levels import NM, Level
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    ChannelPair,
    Order,
    reading_rows,
    unchanged,
)
from autosparse.model_graph.graph import FloatArray

_SWEEPS, _MOST_PAIRS = 8, 4000
# Up to here every division of two groups is tried; of larger ones, exchanges of one channel.
_DIVIDED = 4
# Divisions that are looked at together: wide groups have a thousand exchanges.
_AT_ONCE = 64


def ordered_for(levels: Iterable[Level]) -> NM | None:
    """The N:M pattern that channels are ordered for: the sparsest asked for, of the widest groups.

    None where no level asks for any.
    """
    patterns = (level.pattern for level in levels)
    asked = [pattern for pattern in patterns if isinstance(pattern, NM)]
    return max(asked, key=lambda pattern: (pattern.sparsity, pattern.group), default=None)


def retained(sizes: FloatArray, pattern: NM) -> float:
    """Sum of what a pattern keeps at most.

    Args:
        sizes: (rows, channels), not negative; channels are a multiple of M.
        pattern: N and M.
    """
    groups = sizes.reshape(len(sizes), -1, pattern.group)
    return float(np.sort(groups, axis=-1)[..., -pattern.nonzeros :].sum())


def best_order(sizes: FloatArray, pattern: NM, seed: int = 0) -> Order:
    """Share channels out to groups, two groups at a time, until no two can do better.

    Args:
        sizes: (rows, channels), not negative; channels are a multiple of M.
        pattern: N and M.
        seed: of the order in which groups meet.

    Returns:
        (channels,): the channel that comes to each place; `retained` is never less with it.
    """
    draw = np.random.default_rng(seed)
    order = np.arange(sizes.shape[1]).reshape(-1, pattern.group)
    splits = _splits(pattern.group)
    portions = np.array_split(splits, -(-len(splits) // _AT_ONCE))
    for _ in range(_SWEEPS):
        meetings = list(combinations(range(len(order)), 2))
        chosen = draw.permutation(len(meetings))[:_MOST_PAIRS]
        improved = False
        for first, second in (meetings[i] for i in chosen):
            both = np.concatenate([order[first], order[second]])
            worth = np.concatenate([_kept(sizes, both[some], pattern) for some in portions])
            best = int(worth.argmax())
            # the first split is the one that is
            if worth[best] > worth[0] * (1.0 + 1e-6):
                order[[first, second]] = both[splits[best]]
                improved = True
        if not improved:
            break
    return order.flatten()


def _kept(sizes: FloatArray, divisions: Order, pattern: NM) -> FloatArray:
    """(divisions,): what a pattern keeps of two groups when they are divided so."""
    kept = np.sort(sizes[:, divisions], axis=-1)[..., -pattern.nonzeros :]
    total: FloatArray = kept.sum(axis=(0, 2, 3))
    return total


def _splits(size: int) -> Order:
    """(splits, 2, M): ways to divide the channels of two groups, the present one first."""
    every = range(2 * size)
    if size <= _DIVIDED:
        halves = [[0, *rest] for rest in combinations(range(1, size * 2), size - 1)]
        return np.array([[half, [i for i in every if i not in half]] for half in halves])
    exchanges = [list(every)]
    for mine in range(size):
        for theirs in range(size, 2 * size):
            exchanged = list(every)
            exchanged[mine], exchanged[theirs] = theirs, mine
            exchanges.append(exchanged)
    return np.array(exchanges).reshape(-1, 2, size)


def permuted(graph: ModelGraph, pair: ChannelPair, pattern: NM) -> ChannelChange:
    """The change of one pair; none where its channels do not divide into groups.

    A normalization cannot reorder what it is given, so its channels stay, too.
    """
    if pair.channels % pattern.group or pair.is_norm or pair.channels == pattern.group:
        return unchanged(pair)
    sizes = np.concatenate([np.abs(rows) for rows in reading_rows(graph, pair)])
    plain = unchanged(pair)
    return ChannelChange(pair, plain.scale, best_order(sizes, pattern))
