"""Other weights for the same model, so that it compresses better; before it is looked at.

What comes of it computes what the model computes, but for rounding; the baseline is the file as it
came in any case, and the parity of the two is checked like that of every job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from autosparse.datasets import batches
from autosparse.methods.channel_permutation import permuted
from autosparse.methods.equalization import equalized
from autosparse.methods.smoothing import smoothed
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    ChannelPair,
    changed,
    channel_pairs,
    unchanged,
)
from autosparse.model_graph.graph import FloatArray
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.pipeline.job import Job, first_rows

_ROWS = 128
Choose = Callable[[ModelGraph, ChannelPair], ChannelChange]


def prepared(job: Job) -> Job:
    """The job on a model in other weights, as its configuration asks.

    Raises:
        ModelError: smoothing is asked for, and torch cannot run the model.
    """
    graph = job.graph
    steps: dict[str, Callable[[ModelGraph], Choose]] = {
        "equalize": lambda graph: equalized,
        "smooth": lambda graph: partial(_smoothed, _largest(job, graph)),
        "permute": lambda graph: permuted,
    }
    for name, step in steps.items():
        if name in job.config.prepare:
            graph, count = _apply(graph, step(graph))
            job.engines.progress.note(
                f"--prepare {name}: the channels of {count} of {len(channel_pairs(graph))} places "
                "between layers are others"
                if count
                else f"--prepare {name} finds nothing to do: no channels are made in one place and "
                "read by layers only"
            )
    return replace(job, graph=graph)


def _apply(graph: ModelGraph, choose: Choose) -> tuple[ModelGraph, int]:
    """Change every pair; and how many were."""
    changes = {}
    for pair in channel_pairs(graph):
        change, plain = choose(graph, pair), unchanged(pair)
        moved = not np.array_equal(change.order, plain.order)
        if moved or not np.array_equal(change.scale, plain.scale):
            changes[pair.name] = change
    return changed(graph, changes), len(changes)


def _smoothed(
    largest: dict[str, FloatArray], graph: ModelGraph, pair: ChannelPair
) -> ChannelChange:
    activations = [largest[layer.input] for layer in pair.readers]
    return smoothed(graph, pair, np.max(activations, axis=0))


def _largest(job: Job, graph: ModelGraph) -> dict[str, FloatArray]:
    """Tensor that the readers of a pair read -> largest size of every channel on some rows."""
    found: dict[str, Tensor] = {}

    def observe(name: str, axis: int, values: Tensor) -> None:
        others = [other for other in range(values.ndim) if other != axis % values.ndim]
        sizes = values.detach().abs().amax(dim=others)
        found[name] = torch.maximum(found[name], sizes) if name in found else sizes

    observers = {
        layer.input: partial(observe, layer.input, 1 if layer.operator == "Conv" else -1)
        for pair in channel_pairs(graph)
        for layer in pair.readers
    }
    module = GraphModule.from_graph(graph)
    rows = first_rows(job.calibration, _ROWS).inputs
    with torch.no_grad():
        for batch, _ in batches(rows, job.evaluation_batch):
            module({name: torch.tensor(array) for name, array in batch.items()}, observers)
    return {name: np.asarray(values.numpy(), np.float32) for name, values in found.items()}
