"""How many zeros a model bears by magnitude alone: where its answers begin to move away fast.

Source: seed AN2, Jaiswal et al. 2023, "The Emergence of Essential Sparsity in Large Pre-trained
Models" (arXiv:2306.03805). A guard-rail: beyond the knee, whatever is delivered lives on what its
methods and its training make up for, and deserves a closer look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from autosparse.datasets import Dataset, batches
from autosparse.levels import Unstructured
from autosparse.levels.masks import project
from autosparse.model_graph import ModelGraph
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.recovery.distillation import relative_error

_SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ENOUGH_BYTES = 256 << 20


def essential_sparsity(graph: ModelGraph, rows: Dataset, rows_at_once: int) -> float:
    """The knee of the answers' error over zeros, the same share of them in every layer.

    Args:
        graph: the model; torch must compute what the runtime does.
        rows: some rows.
        rows_at_once: of one run.

    Returns:
        A share of zeros; 0 where the error is no number, or no output has numbers.
    """
    errors = []
    module = GraphModule.from_graph(graph)
    dense = _of_bounded_size(_answers(module, rows, rows_at_once))
    if not dense:
        return 0.0
    for sparsity in _SPARSITIES:
        for layer in graph.layers:
            weight = torch.tensor(layer.to_matrix(graph.weight(layer)))
            kept = weight * project(weight.abs(), Unstructured(sparsity=sparsity))
            module.set_layer_weight(layer.name, torch.tensor(layer.from_matrix(kept.numpy())))
        found = _answers(module, rows, rows_at_once)
        errors.append(float(torch.stack([
            relative_error(mine, theirs) for theirs, mine in zip(dense, found, strict=False)
        ]).mean()))  # fmt: skip
    return knee(_SPARSITIES, errors)


def knee(sparsities: Sequence[float], errors: Sequence[float]) -> float:
    """Where a rising curve from the origin lies farthest below its chord.

    Args:
        sparsities: rising, above 0.
        errors: one for each; what falls again counts as what was before.

    Returns:
        One of the sparsities, or 0 where the curve is nowhere below its chord or no number.
    """
    if not all(map(math.isfinite, errors)) or max(errors) <= 0:
        return 0.0
    risen = np.maximum.accumulate(np.array(errors)) / max(errors)
    below = np.array(sparsities) / sparsities[-1] - risen
    best = int(below.argmax())
    return float(sparsities[best]) if below[best] > 0 else 0.0


def _answers(module: GraphModule, rows: Dataset, rows_at_once: int) -> Iterator[torch.Tensor]:
    """Every output that has numbers, batch after batch."""
    for batch, _ in batches(rows.inputs, rows_at_once):
        with torch.no_grad():
            answers = module({name: torch.tensor(array) for name, array in batch.items()})
        yield from (values for values in answers.values() if values.is_floating_point())


def _of_bounded_size(answers: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The first ones: a language model's answers to all rows may have no room."""
    kept: list[torch.Tensor] = []
    size = 0
    for values in answers:
        kept.append(values)
        size += values.nbytes
        if size >= _ENOUGH_BYTES:
            break
    return kept
