"""What a job may choose: its space with groups and bounds, and the wishes of its flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from autosparse.errors import ConfigError
from autosparse.evaluation import Backend, Target
from autosparse.levels import BASELINE
from autosparse.levels.sparsity_bounds import knee_sparsity, pq_highest_sparsity, pq_index
from autosparse.model_graph import Layer, ModelGraph
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.layer_choices import Choice, layer_choices, shared
from autosparse.pipeline.layer_groups import layer_groups
from search_spaces import SparsityBound, load_space

# A level of exactly the bound is within it.
_ROUNDING = 1e-9


def job_choices(
    graph: ModelGraph, config: JobConfig, backend: Backend, target: Target
) -> tuple[Choice, ...]:
    """Every layer x level of a job's space with its fate, the baseline level first.

    Raises:
        ConfigError: the space is none, a pattern means nothing, or a kept level cannot be made.
    """
    space = load_space(config.space)
    groups = layer_groups(graph, space, config.group)
    choices = layer_choices(
        graph, space.levels, backend, target,
        exclude=config.exclude, keep=config.keep, groups=groups,
    )  # fmt: skip
    if space.bound is None:
        return choices
    return shared(within_bound(graph, choices, space.bound), groups)


def check_backend(graph: ModelGraph, backend: Backend, target: Target) -> None:
    """A backend that runs no layer as it came lacks a library or a compiler.

    Raises:
        ConfigError: it does. Told before anything is measured.
    """
    told = [backend.capability(layer, BASELINE, target) for layer in graph.layers]
    if told and not any(capability.runs for capability in told):
        raise ConfigError(
            f"the backend {backend.name} runs no layer of the model here: {told[0].reason}",
            hint="install what is missing, or give another --backend",
        )


def without_exclusions(config: JobConfig) -> JobConfig:
    """The same wishes with every exclusion said by --keep, which goes before what is kept then.

    So a job that answers from another one may keep what that one excluded; within one job the two
    flags contradict each other. Jobs of an earlier version may have both, and meant this.
    """
    keep = (*kept_as_they_came(config.exclude), *config.keep)
    return config.model_copy(update={"exclude": (), "keep": keep})


def kept_as_they_came(patterns: Iterable[str]) -> tuple[str, ...]:
    """What leaves layers as they are, said by --keep."""
    return tuple(f"{pattern}={BASELINE}" for pattern in patterns)


def within_bound(
    graph: ModelGraph, choices: Sequence[Choice], bound: SparsityBound
) -> tuple[Choice, ...]:
    """The choices, those refused that have more zeros than their layer bears.

    A layer that is kept at a level has it whatever the bound says.
    """
    options = Counter(choice.layer.name for choice in choices if choice.searched)
    highest = {layer.name: _highest(graph, layer, bound) for layer in graph.layers}
    bounded: list[Choice] = []
    for choice in choices:
        most, words = highest[choice.layer.name]
        too_sparse = choice.level.sparsity > most + _ROUNDING
        if too_sparse and choice.searched and options[choice.layer.name] > 1:
            reason = f"{choice.layer.name}: the space bounds its zeros at {most:.1%}, {words}"
            choice = replace(choice, runs=False, searched=False, reason=reason)
        bounded.append(choice)
    return tuple(bounded)


def _highest(graph: ModelGraph, layer: Layer, bound: SparsityBound) -> tuple[float, str]:
    """The largest fraction of zeros, and how it was found."""
    weights = graph.weight(layer)
    if bound.measure == "knee":
        return knee_sparsity(weights), "the knee of the norm that its weights keep"
    words = f"by its PQ index of {pq_index(weights):.3f} with slack {bound.slack:g}"
    return pq_highest_sparsity(weights, bound.slack), words
