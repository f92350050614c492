"""Idea: choose the zeros of N:M groups anew, one after the other, all other weights fitted to them.

Source: the block coordinate descent of Liu et al. 2025, "ARMOR: High-Performance Semi-Structured
Pruning via Adaptive Matrix Factorization" (seed NM3, arXiv:2510.05528), **without its wrappers**.
There a weight is A x (2:4 core) x B, A and B block-diagonal, and all three are fitted. The wrappers
are left out, since no lowering has them and none would pay here: they are two more operators for
every layer (with 384 inputs and outputs and blocks of 128, two thirds of the dense product's
multiplications, of which 2:4 saves half). Diagonal ones add nothing to a core that is fitted, and
behind an activation neither can be merged into the layer before. What is here is the core's part:
the step that chooses a group's zeros anew, and the continuous step, an exact fit in place of
gradients. The loss is the error of the outputs, correlations of the inputs included; under the
paper's, which has none of them, a core alone could not do better than wanda. As there, no step
raises the loss, and it starts where another solver ends, ALPS: it never does worse than that.
Helps when: inputs are correlated, the pattern is N:M, and more time for a layer does not matter. It
leaves a few hundredths less of the error than ALPS, which a trained ResNet-20 does not feel.
Does nothing when: inputs are uncorrelated (then it is wanda).
Cost: that of ALPS, and for every row an inverse of K x K and an update of it for each exchange:
rows x K^3. Seconds for a layer with hundreds of inputs; at 1536, a quarter of a second a row.
"""

from __future__ import annotations

from torch import Tensor

from autosparse.errors import AutoSparseError
from autosparse.levels import NM, Level, Pattern
from autosparse.methods.alps import chosen_support
from autosparse.methods.fitted_rows import FittedRows, slices, why_too_wide
from autosparse.methods.layer_problem import LayerProblem
from autosparse.methods.support_solver import SupportSolver
from autosparse.model_graph import Layer

# What an exchange must give, as a share of the row's error and of its output.
_WORTHWHILE, _SMALLEST = 1e-3, 1e-12
# Exchanges per row, as a share of its columns: later ones give next to nothing.
_MOST_EXCHANGES = 0.5


def descended(problem: LayerProblem, kept: Tensor, width: int) -> Tensor:
    """Exchange kept and removed weights within runs, the others fitted anew each time.

    Each row makes the best of all its exchanges, again and again, until none is worth it.

    Args:
        problem: the layer.
        kept: (groups, rows, K) bool, where to start; not changed.
        width: columns of a run.

    Returns:
        (groups, rows, K) bool, with as many kept in each run of each row.
    """
    kept = kept.clone()
    most = max(int(_MOST_EXCHANGES * kept.shape[-1]), 1)
    for group, rows in slices(problem):
        fitted = FittedRows.of(
            problem.hessian[group], problem.weight[group, rows], kept[group, rows]
        )
        smallest = _WORTHWHILE * fitted.errors() + _SMALLEST * fitted.energy
        for _ in range(most):
            change, columns = fitted.best_exchange(width)
            better = (change < -smallest).nonzero()[:, 0]
            if not len(better):
                break
            fitted.toggle(better, columns[better])
        kept[group, rows] = fitted.kept
    return kept


class NmDescent(SupportSolver):
    """N:M zeros only."""

    name = "nm_descent"
    summary = "choose N:M groups anew in turn, all other weights fitted, from ALPS's zeros on"
    source = "NM3: the descent of ARMOR without its wrappers, Liu et al. 2025, arXiv:2510.05528"
    cost = "ALPS, and an inverse with updates, cubic in K, for every row"

    def why_not(self, layer: Layer, level: Level) -> str:
        """It exchanges weights within the groups of N:M."""
        reason = super().why_not(layer, level) or why_too_wide(self.name, layer)
        if not reason and not isinstance(level.pattern, NM):
            return f"{layer.name}: nm_descent makes N:M zeros only, not {level}"
        return reason

    def support(self, problem: LayerProblem, pattern: Pattern) -> Tensor:
        """Descend from the zeros of ALPS.

        Raises:
            AutoSparseError: the pattern is none of those that `why_not` lets through.
        """
        if not isinstance(pattern, NM):
            raise AutoSparseError(f"nm_descent makes N:M zeros only, not {pattern}")
        return descended(problem, chosen_support(problem, pattern), pattern.group)
