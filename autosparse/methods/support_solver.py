"""What solvers have in common that choose which weights to keep, and leave the rest to the fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level, Pattern
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.applicability import why_not_pruned
from autosparse.methods.kept_weights import settled
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.method import Family, Statistic
from autosparse.model_graph import Layer


class SupportSolver(ABC):
    """Any pattern, fp32 or int8, from a Hessian; the kept weights change."""

    name: str
    summary: str
    source: str
    needs: frozenset[Statistic] = frozenset({"hessian"})
    family: Family = "solver"
    cost: str

    @abstractmethod
    def support(self, problem: LayerProblem, pattern: Pattern) -> Tensor:
        """Which weights to keep: (groups, rows, K) bool."""

    def why_not(self, layer: Layer, level: Level) -> str:
        """It makes every pattern with zeros that fits the layer."""
        return why_not_pruned(self.name, layer, level)

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Choose the support, then fit the weights on it.

        Raises:
            CandidateError: the Hessian cannot be made positive definite.
        """
        problem = LayerProblem.of(layer, weight, statistics)
        return settled(problem, self.support(problem, level.pattern), level.precision)


def lowest_price(
    sparsity: float, highest: float, halvings: int, zeros_at: Callable[[float], float]
) -> float:
    """Halve the interval in which the price of a unit of magnitude makes the zeros asked for.

    Args:
        sparsity: share of zeros, in (0, 1).
        highest: a price that makes more.
        halvings: how often.
        zeros_at: the share of zeros at a price; may go on from where the last one ended.

    Returns:
        The lower end: at it no more weights are zero than asked for, so those left can be ranked.
    """
    low, high = 0.0, highest
    for _ in range(halvings):
        price = (low + high) / 2
        low, high = (price, high) if zeros_at(price) < sparsity else (low, price)
    return low
