"""Room for Hessians: which of them are in memory together, and which have none even alone.

A Hessian is K x K for every group of a layer: 64 MiB where K is 4096, a gigabyte where it is 16384.
"""

from __future__ import annotations

from collections.abc import Iterable

from autosparse.calibration.layer_statistics import hessian_bytes
from autosparse.model_graph import Layer, ModelGraph

WORKING = 15
"""What a method makes of a Hessian takes up to so many times its bytes: copies, most of them in
double precision, factors and eigenvectors. Measured where K is 1536, as growth of the process over
the Hessian's 9.4 MB: 9 with GPTQ, 7 with DSnoT, 13 with SparseGPT, 15 with ALPS."""


def hessian_groups(
    graph: ModelGraph, layers: Iterable[Layer], free: int
) -> tuple[tuple[str, ...], ...]:
    """Names of the layers whose Hessians are in memory together, in graph order.

    Layers that share one are in one group, and what has no room beside others is a group of its
    own.

    Args:
        graph: the model.
        layers: those whose Hessian is asked for.
        free: bytes of memory.
    """
    sizes = hessian_bytes(graph, layers)
    room = free - WORKING * max(sizes.values(), default=0)
    groups: list[list[str]] = []
    left = 0
    for names, taken in sizes.items():
        if not groups or taken > left:
            groups.append([])
            left = room
        groups[-1].extend(names)
        left -= taken
    return tuple(map(tuple, groups))


def too_large(graph: ModelGraph, layers: Iterable[Layer], free: int) -> dict[str, int]:
    """Layer -> bytes of its Hessian, where that has no room even alone.

    Args:
        graph: the model.
        layers: those whose Hessian is asked for.
        free: bytes of memory.
    """
    return {
        name: taken
        for names, taken in hessian_bytes(graph, layers).items()
        if (1 + WORKING) * taken > free
        for name in names
    }
