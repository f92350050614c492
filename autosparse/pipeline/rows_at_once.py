"""How many rows are run at once when quality, not latency, is asked for."""

from __future__ import annotations

from collections.abc import Sequence

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
    costs = [cost for one in shapes for cost in layer_costs(graph, dict(one)).values()]
    largest = max((cost.output_elements or 0 for cost in costs), default=0)
    row_bytes = max(largest // batch * np.dtype(np.float32).itemsize, 1)
    return min(max(_ACTIVATION_BYTES // row_bytes, 1), MOST_ROWS_AT_ONCE)
