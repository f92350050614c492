"""`--dry-run`: what would be searched, without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.evaluation import Backend
from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.cost import LayerCost, layer_costs
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import target_of
from autosparse.pipeline.job_choices import job_choices
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.layer_groups import Groups, layer_groups
from search_spaces import load_space


@dataclass(frozen=True)
class DryRun:
    """The resolved layers and levels."""

    graph: ModelGraph
    choices: tuple[Choice, ...]
    groups: Groups
    """Layers that share one level."""
    costs: Mapping[str, LayerCost]
    """Layer -> what it costs in the target's shapes."""

    @property
    def parameters(self) -> int:
        """Weights of all layers."""
        return sum(cost.parameters for cost in self.costs.values())

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of all layers; None where one of them is not known."""
        counts = [cost.macs for cost in self.costs.values()]
        return None if None in counts else sum(count or 0 for count in counts)


def run_dry(config: JobConfig, backend: Backend) -> DryRun:
    """Resolve layers, patterns and levels.

    Raises:
        UserInputError: the model, a pattern or the space is wrong.
    """
    graph = load_model(config.model)
    target = target_of(config).for_model(graph)
    groups = layer_groups(graph, load_space(config.space), config.group)
    choices = job_choices(graph, config, backend, target)
    return DryRun(graph, choices, groups, layer_costs(graph, target.input_shapes))
