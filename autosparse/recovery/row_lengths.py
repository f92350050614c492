"""How long the rows of a model of sentences are, where padding behind them changes no answer.

Sentences that are filled up to one length spend most of a step on what only fills up. Where an
input says which places are filled up, and the model lets the length of a batch free, batches are
cut to their longest row. That it changes no answer is tried, on the dense model, and not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from autosparse.errors import AutoSparseError
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.agreement import TOLERANCE, relative_error
from autosparse.model_graph.torch_executor import GraphModule, failures_told

Array = npt.NDArray[np.generic]
Ints = npt.NDArray[np.int64]
_TRIED_ROWS = 8


@dataclass(frozen=True)
class RowLengths:
    """Where rows end."""

    inputs: frozenset[str]
    """Whose second axis is the length."""
    of_rows: Ints
    """(rows,): places that are there."""

    def cut(self, arrays: Mapping[str, Array], rows: Ints) -> dict[str, Array]:
        """The chosen rows of every input, as long as the longest of them."""
        longest = int(self.of_rows[rows].max())
        return {
            name: array[rows, :longest] if name in self.inputs else array[rows]
            for name, array in arrays.items()
        }


def row_lengths(graph: ModelGraph, arrays: Mapping[str, Array]) -> RowLengths | None:
    """Find out what can be cut; None where nothing can, or where it would change an answer.

    Args:
        graph: the dense model.
        arrays: input name -> (rows, ...).
    """
    found = _by_mask(graph, arrays)
    return found if found is not None and _changes_nothing(graph, arrays, found) else None


def _by_mask(graph: ModelGraph, arrays: Mapping[str, Array]) -> RowLengths | None:
    """By an input of ones and zeros, the zeros behind the ones: (rows, length)."""
    free = {spec.name: spec.shape[1] for spec in graph.inputs if len(spec.shape) > 1}
    free = {name: axis for name, axis in free.items() if isinstance(axis, str)}
    for name in free:
        lengths = _lengths_of(arrays[name])
        if lengths is not None:
            width = arrays[name].shape[1]
            # an axis may be free without a name
            alike = {
                other
                for other, axis in free.items()
                if axis == free[name] and arrays[other].shape[1] == width
            }
            return RowLengths(frozenset(alike), lengths)
    return None


def _lengths_of(mask: Array) -> Ints | None:
    """(rows,) ones of every row, where that is what the input is and some row has zeros."""
    if mask.ndim != 2:
        return None
    there = mask == 1
    is_mask = there | (mask == 0)
    in_order = there[:, :-1] >= there[:, 1:]
    if not (is_mask.all() and in_order.all() and there[:, 0].all()) or there.all():
        return None
    lengths: Ints = there.sum(axis=1, dtype=np.int64)
    return lengths


def _changes_nothing(graph: ModelGraph, arrays: Mapping[str, Array], found: RowLengths) -> bool:
    """Whether some of the shortest rows have the same answers when they are cut.

    A model that lets the length free by its signature alone fails here, and is not cut.
    """
    module = GraphModule.from_graph(graph)
    shortest = np.argsort(found.of_rows, kind="stable")[:_TRIED_ROWS]

    def answered(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            given = {name: torch.from_numpy(own) for name, own in inputs.items()}
            return {name: own.numpy() for name, own in module(given).items()}

    try:
        with failures_told():
            cut = answered(found.cut(arrays, shortest))
    except AutoSparseError:
        return False
    whole = answered({name: array[shortest] for name, array in arrays.items()})
    return relative_error(cut, _as_short(whole, cut)) <= TOLERANCE


def _as_short(whole: Mapping[str, Array], cut: Mapping[str, Array]) -> dict[str, Array]:
    """Answers for every place, as far as there are places in the cut ones."""
    return {
        name: own[:, : cut[name].shape[1]] if own.ndim > 1 and cut[name].ndim > 1 else own
        for name, own in whole.items()
    }
