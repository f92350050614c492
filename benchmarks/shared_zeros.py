"""Zeros shared out among layers: as many in all, and more of them where they cost little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autosparse.search.chain import Chain, Floats
from autosparse.search.knapsack import chain_front

# A partial answer stands for all that keep as many weights, to this share of them.
_RESOLUTION = 1 / 2000


def shared_out(
    sizes: Mapping[str, int], shares: Sequence[float], errors: Floats, zeros: float
) -> dict[str, float]:
    """The least summed error with so many zeros, as a knapsack over the layers.

    Args:
        sizes: layer -> number of its weights.
        shares: of zeros, that a layer may have, rising.
        errors: (layers, shares), what each layer's zeros cost alone.
        zeros: share of all weights that must be zero, at most the largest of the shares.

    Returns:
        Layer -> its share of zeros.
    """
    weights = np.array(list(sizes.values()), dtype=np.float64)
    kept = weights[:, None] * (1.0 - np.array(shares)) / weights.sum()
    joint = np.zeros((max(len(kept) - 1, 0), len(shares), len(shares)))
    chain = Chain(tuple(sizes), float(kept[:, 0].sum()), kept - kept[:, :1], joint)
    front = chain_front(chain, errors, _RESOLUTION)
    answer = front.best_within(1.0 - zeros)
    if answer is None:
        raise ValueError(f"no more than {max(shares):.0%} of the weights can be zero")
    point = chain.point(front.numbers(answer))
    return {name: shares[number] for name, number in point.items()}
