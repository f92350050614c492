"""Groups of layers that share one level, for instance the three projections of one attention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autosparse.errors import ConfigError
from autosparse.levels import Level
from autosparse.model_graph import ModelGraph
from autosparse.pipeline.layer_patterns import LayerPattern
from autosparse.search.space import group_name
from search_spaces import SpaceFile

Groups = tuple[tuple[str, ...], ...]


def layer_groups(graph: ModelGraph, space: SpaceFile, flags: Sequence[str]) -> Groups:
    r"""Names of the layers of every group, from the space's patterns and those of `--group`.

    Layers that match a pattern form one group for each different tuple of captured texts:
    `layer(\d+)\.(?:query|key|value)` makes one group of every `layer0`, `layer1` and so on.

    Raises:
        ConfigError: a pattern matches nothing, makes no group of two, or meets another's layer.
    """
    patterns = [LayerPattern(text, "the space's group") for text in space.groups]
    patterns += [LayerPattern(text, "--group") for text in flags]
    groups: list[tuple[str, ...]] = []
    owners: dict[str, LayerPattern] = {}
    for pattern in patterns:
        alike: dict[tuple[str | None, ...], list[str]] = {}
        for name, captured in pattern.keys(graph.layers).items():
            alike.setdefault(captured, []).append(name)
        shared = [tuple(names) for names in alike.values() if len(names) > 1]
        if not shared:
            raise ConfigError(
                f"{pattern.source} {pattern.text!r} lets no two layers share a level",
                hint="layers share one where their capture groups are equal: write (?:...) around "
                "what may differ",
            )
        for name in (name for names in shared for name in names):
            if name in owners:
                raise ConfigError(
                    f"{name} is in the groups of both {owners[name].text!r} and {pattern.text!r}",
                    hint="a layer shares its level with one group only: join the patterns",
                )
            owners[name] = pattern
        groups.extend(shared)
    _check_names(graph, groups)
    return tuple(groups)


def _check_names(graph: ModelGraph, groups: Sequence[Sequence[str]]) -> None:
    names = {layer.name for layer in graph.layers}
    for layers in groups:
        if group_name(layers) in names:
            raise ConfigError(
                f"a layer is called {group_name(layers)!r}, as the group of {layers[0]} would be",
                hint="rename that layer, or leave the group away",
            )


def spread(fixed: dict[str, Level], groups: Groups) -> dict[str, Level]:
    """Fixed levels, those of one layer for its whole group.

    Raises:
        ConfigError: two layers of a group are fixed at different levels.
    """
    everywhere = dict(fixed)
    for names in groups:
        own = {name: fixed[name] for name in names if name in fixed}
        for name, level in own.items():
            first, other = next(iter(own.items()))
            if level.without_method() != other.without_method():
                raise ConfigError(
                    f"{first} and {name} share a level, and cannot be kept at {other} and {level}",
                    hint="keep them at the same level, or take them out of their group",
                )
        everywhere |= {name: own.get(name, level) for level in own.values() for name in names}
    return everywhere


def not_shared(
    searched: Iterable[tuple[str, Level]], groups: Groups
) -> dict[str, dict[Level, str]]:
    """What cannot be searched since another layer of the group cannot have it.

    Args:
        searched: (layer, level) that may be searched, were there no groups. Methods do not count:
            two layers share a level where pattern and precision agree.
        groups: layers that share a level.

    Returns:
        Layer -> pattern and precision -> the reason.
    """
    kinds: dict[str, set[Level]] = {}
    for name, level in searched:
        kinds.setdefault(name, set()).add(level.without_method())
    reasons: dict[str, dict[Level, str]] = {}
    for names in groups:
        for name in names:
            for kind in kinds.get(name, ()):
                lacking = next((o for o in names if kind not in kinds.get(o, ())), None)
                if lacking is not None:
                    reasons.setdefault(name, {})[kind] = (
                        f"{name}: shares its level with {lacking}, which cannot be {kind}"
                    )
    return reasons


def told(groups: Groups) -> str:
    """A sentence for the report."""
    listed = "; ".join(", ".join(names) for names in groups)
    return f"layers that share a level: {listed}"
