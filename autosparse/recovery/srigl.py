"""Idea: every output keeps equally many weights, and an output that hardly matters keeps none.

Source: seed NM5, SRigL: Lasby et al. 2023, "Dynamic Sparse Training with Structured Sparsity"
(arXiv:2305.02299): RigL's exchange under a constant fan-in, with ablation of neurons.
Helps when: what runs the layer likes rows of equal length, or sparsity is so high that whole
outputs are better left out.
Does nothing when: outputs differ much in how many weights they need.
Cost: a training; some selections every few steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from autosparse.levels import Dense, Level, Unstructured
from autosparse.levels.masks import project
from autosparse.recovery.drop_and_grow import DropAndGrow, DropAndGrowConfig
from autosparse.recovery.trained_layer import TrainedLayer


class SriglConfig(DropAndGrowConfig):
    """Drop and grow with rows of equal length."""

    salient: float = Field(default=0.3, ge=0.0, lt=1.0)
    """The paper's gamma: the share of a row's weights that must be salient, else it is ablated."""


def live_rows(left: Tensor, growth: Tensor, budget: int, salient: float) -> Tensor:
    """Which rows go on: those with enough weights that survived, or would grow without a fan-in.

    Args:
        left: (rows, K) bool: what survived.
        growth: (rows, K), not negative: scores of what may grow.
        budget: weights that the layer may keep.
        salient: share of a row's weights that must be salient.

    Returns:
        (rows,) bool; at least one row.
    """
    coming = max(budget - int(left.sum()), 0)
    order = torch.where(left, -1.0, growth).flatten().argsort(descending=True, stable=True)
    counted = left.flatten().clone()
    counted[order[:coming]] = True
    counts = counted.reshape(left.shape).sum(dim=1)
    least = max(1.0, salient * budget / len(left))
    return (counts >= least) | (counts == counts.max())


def constant_fan_in(scores: Tensor, live: Tensor, budget: int) -> Tensor:
    """Keep equally many weights of every live row, those that score highest, and none of others.

    Args:
        scores: (rows, K).
        live: (rows,) bool, at least one; of more rows than the budget, the best stay.
        budget: weights that the layer may keep, at least one; a rest stays unused.

    Returns:
        (rows, K) bool.
    """
    if int(live.sum()) > budget:
        best = torch.where(live, scores.amax(dim=1), -torch.inf)
        live = project(best[None], Unstructured(sparsity=1.0 - budget / len(live)))[0]
    each = min(budget // int(live.sum()), scores.shape[1])
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(1, scores.argsort(dim=1, descending=True, stable=True)[:, :each], True)
    return kept & live[:, None]


class Srigl(DropAndGrow):
    """Zeros grow by gradient, within rows of equal length."""

    name = "srigl"
    summary = "exchanges by gradient under a constant fan-in; outputs that hardly matter go"
    source = "NM5: SRigL, Lasby et al. 2023, arXiv:2305.02299"

    def __init__(self, config: SriglConfig | None = None) -> None:
        super().__init__(config)
        self.salient = (config or SriglConfig()).salient

    def why_not(self, levels: Mapping[str, Level]) -> str:
        """A fan-in counts single weights."""
        for name, level in levels.items():
            if not isinstance(level.pattern, Unstructured | Dense):
                return f"{name} is {level}, and a constant fan-in has unstructured zeros only"
        return ""

    def first_mask(self, layer: TrainedLayer) -> Tensor:
        """Rows of equal length from the start."""
        every = torch.ones(len(layer.raw), dtype=torch.bool)
        return constant_fan_in(layer.raw.detach().abs(), every, _budget(layer))

    def states(self, layer: TrainedLayer) -> Mapping[str, Tensor]:
        """The last gradient."""
        return {"gradient": torch.zeros_like(layer.raw)}

    def look(self, layer: TrainedLayer, gradient: Tensor) -> None:
        """Keep the gradient."""
        layer.state("gradient").copy_(gradient)

    def growth(self, layer: TrainedLayer) -> Tensor:
        """The size of the gradient."""
        return layer.state("gradient").abs()

    def moved(self, layer: TrainedLayer, left: Tensor) -> Tensor:
        """Ablate, then fill the live rows."""
        growth, budget = self.growth(layer), _budget(layer)
        live = live_rows(left, growth, budget, self.salient)
        largest = growth.max().clamp_min(torch.finfo(growth.dtype).tiny)
        return constant_fan_in(growth / largest + 2.0 * left, live, budget)


def _budget(layer: TrainedLayer) -> int:
    """Weights that the level keeps."""
    return int(project(layer.raw.detach().abs(), layer.pattern).sum())
