"""What a set of recipes covers of the plane of latency and divergence."""

from __future__ import annotations

import numpy as np

from benchmarks.tabulated import Floats

# Divergences count by their order of magnitude, between these bounds, in nats.
_LEAST, _MOST = 1e-4, 1.0


def hypervolume(latencies: Floats, divergences: Floats) -> float:
    """Area that is dominated, up to the baseline's latency and one nat.

    Args:
        latencies: (recipes,) as shares of the baseline's.
        divergences: (recipes,), in nats; a decade counts like the next one.
    """
    depth = np.log10(_MOST) - np.log10(np.clip(divergences, _LEAST, _MOST))
    order = np.argsort(latencies, kind="stable")
    reached = np.maximum.accumulate(depth[order])
    edges = np.clip(np.append(latencies[order], 1.0), 0.0, 1.0)
    return float((np.maximum(np.diff(edges), 0.0) * reached).sum())


def hypervolumes(latencies: Floats, divergences: Floats) -> Floats:
    """(recipes,): what the first one, two, ... of them cover."""
    counts = range(1, len(latencies) + 1)
    return np.array([hypervolume(latencies[:n], divergences[:n]) for n in counts])
