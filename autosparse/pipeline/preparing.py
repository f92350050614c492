"""Other weights for the same model, so that it compresses better; before it is looked at.

What comes of it computes what the model computes, but for rounding; the baseline is the file as it
came in any case, and the parity of the two is checked like that of every job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from autosparse.calibration.finite import finite_extremes
from autosparse.errors import MeasurementError
from autosparse.methods.channel_permutation import ordered_for, permuted
from autosparse.methods.equalization import equalized
from autosparse.methods.smoothing import smoothed
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    ChannelPair,
    Choose,
    channel_pairs,
    rewritten,
)
from autosparse.model_graph.graph import FloatArray
from autosparse.pipeline.baseline import does_not_run
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.probe import Probe
from search_spaces import load_space

_ROWS = 128


def prepared(job: Job) -> Job:
    """The job on a model in other weights, as its configuration asks.

    Raises:
        ModelError: smoothing is asked for, and the runtime cannot run the model.
        DataError: the model computes NaN or infinity on the calibration data.
    """
    graph = job.graph
    pattern = ordered_for(load_space(job.config.space).levels)
    steps: dict[str, Callable[[ModelGraph], Choose]] = {
        "equalize": lambda graph: equalized,
        "smooth": lambda graph: partial(_smoothed, _largest(job, graph)),
    }
    if pattern is not None:
        steps["permute"] = lambda graph: partial(permuted, pattern=pattern)
    elif "permute" in job.config.prepare:
        job.engines.progress.note(
            f"--prepare permute finds nothing to do: the space {job.config.space} has no N:M level"
        )
    for name, step in steps.items():
        if name in job.config.prepare:
            graph, count = rewritten(graph, step(graph))
            what = f"in an order for {pattern}" if name == "permute" else "others"
            job.engines.progress.note(
                f"--prepare {name}: the channels of {count} of {len(channel_pairs(graph))} places "
                f"between layers are {what}"
                if count
                else f"--prepare {name} finds nothing to do: no channels are made in one place and "
                "read by layers only"
            )
    return replace(job, graph=graph)


def _smoothed(
    largest: dict[str, FloatArray], graph: ModelGraph, pair: ChannelPair
) -> ChannelChange:
    activations = [largest[layer.input] for layer in pair.readers]
    return smoothed(graph, pair, np.max(activations, axis=0))


def _largest(job: Job, graph: ModelGraph) -> dict[str, FloatArray]:
    """Tensor that the readers of a pair read -> largest size of every channel on some rows.

    As the runtime computes them: torch is compared with it only later.
    """
    axes = {
        layer.input: 1 if layer.operator == "Conv" else -1
        for pair in channel_pairs(graph)
        for layer in pair.readers
    }
    found: dict[str, FloatArray] = {}
    if not axes:
        return found
    try:
        for seen, _ in Probe(job, graph, first_rows(job.calibration, _ROWS), axes):
            for name, values in seen.items():
                finite_extremes(name, values)
                sizes = _channel_sizes(values, axes[name])
                found[name] = np.maximum(found[name], sizes) if name in found else sizes
    except MeasurementError as error:
        raise does_not_run(job, error) from error
    return found


def _channel_sizes(values: FloatArray, axis: int) -> FloatArray:
    """Largest size along one axis."""
    others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    sizes: FloatArray = np.abs(values).max(axis=others)
    return sizes
