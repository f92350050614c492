"""How many rows are run at once when quality, not latency, is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autosparse.datasets import Dataset
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.cost import layer_costs

MOST_ROWS_AT_ONCE = 32
# A runtime holds several activations at once: so much the largest of a layer may take.
_ACTIVATION_BYTES = 8 << 20


def rows_at_once(graph: ModelGraph, batch: int, given: Sequence[Dataset | None]) -> int:
    """As many rows as keep the largest activation of a layer small, at least one.

    It depends on the data's own shapes: they may be longer than what is timed.

    Args:
        graph: the model.
        batch: rows for which its shapes are computed.
        given: the data sets of a job; None for one that was not given.
    """
    shapes = {
        tuple((name, (batch, *array.shape[1:])) for name, array in data.inputs.items())
        for data in given
        if data is not None
    }
    most = min(rows_within(graph, batch, dict(one), _ACTIVATION_BYTES) for one in shapes)
    return min(most, MOST_ROWS_AT_ONCE)


def rows_within(
    graph: ModelGraph, batch: int, shapes: Mapping[str, tuple[int, ...]], activation_bytes: int
) -> int:
    """How many rows keep the largest output of a layer within so many bytes, at least one.

    Args:
        graph: the model.
        batch: rows in the shapes.
        shapes: of the inputs.
        activation_bytes: what it may take.
    """
    elements = [cost.output_elements or 0 for cost in layer_costs(graph, shapes).values()]
    row_bytes = max(elements, default=0) // batch * np.dtype(np.float32).itemsize
    return max(activation_bytes // max(row_bytes, 1), 1)
