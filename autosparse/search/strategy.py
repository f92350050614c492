"""The contract of a strategy: an Optuna sampler, fed by a plain context of precomputed scores.

A strategy has no clock, disk, network or torch. It proposes; the pipeline runs and stores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from optuna.samplers import BaseSampler

from autosparse.levels import Level
from autosparse.search.size_limit import SizeLimit
from autosparse.search.space import RecipeSpace

LATENCY_CONSTRAINT, DROP_CONSTRAINT = "latency", "drop"
SIZE_CONSTRAINT, MEMORY_CONSTRAINT = "size", "memory"
"""Keys of the constraints that a point carries, in shares of their bound: 0 or less is inside."""
SCREENED = "screened"
"""User attribute of a point that never ran: its divergence is the table's sum."""


@dataclass(frozen=True)
class StrategyContext:
    """What a strategy may know before the first trial."""

    space: RecipeSpace
    seconds: Mapping[tuple[str, Level], float]
    """Attributed latency of each layer at each level; of a group, the sum of its layers'."""
    divergence: Mapping[tuple[str, Level], float]
    """Error of the outputs with one layer at one level; of a group, the sum of its layers'."""
    weight_error: Mapping[tuple[str, Level], float]
    """Squared distance of each layer's weight at each level from the dense one, relative."""
    lamp: Mapping[tuple[str, Level], float]
    """LAMP score of the largest weight that each level's zeros remove; 0 without zeros."""
    latency_bound: float
    """Largest allowed latency as a share of the baseline's."""
    predicted_ratio: Callable[[Mapping[str, int]], float]
    """Predicted latency of a point, as a share of the baseline's. A pure function."""
    seed: int
    latency_tolerance: float = 0.01
    """Predictions may be too high by this share of the bound: what is near it is measured."""
    size_limit: SizeLimit | None = None
    """What files may weigh, and what points are thought to; None where any size will do, or where
    the level table tells no sizes."""


@runtime_checkable
class Strategy(Protocol):
    """Builds the sampler of one study."""

    name: str
    summary: str
    """One line for `autosparse strategies`: what it does; when to use it."""
    source: str
    """Paper or system it embodies, behind its code in the catalogue of papers if it has one."""
    objectives: Literal[1, 2]
    """1: the divergence, with the latency as a constraint. 2: divergence and latency."""

    def sampler(self, context: StrategyContext) -> BaseSampler:
        """A sampler that has seen no trial."""
