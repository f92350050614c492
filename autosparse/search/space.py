"""The resolved search space: for each layer of one model, the levels that may be chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from optuna.distributions import IntDistribution

from autosparse.errors import AutoSparseError
from autosparse.levels import Knobs, Level, Recipe


@dataclass(frozen=True)
class Member:
    """A layer of a group."""

    group: str
    """Name of the group in the space."""
    levels: tuple[Level, ...]
    """The layer's level for each of the group's, in their order; methods may differ."""


@dataclass(frozen=True)
class RecipeSpace:
    """Recipes as points with one integer for every layer, or group of layers, that has a choice.

    Levels are ordered from the slowest to the fastest, so that neighbouring integers are
    neighbouring choices; what has one level is fixed and is no parameter. Layers that share a
    level appear in `levels` under the one name of their group: who proposes points needs to know
    nothing of groups.
    """

    model_sha256: str
    levels: Mapping[str, tuple[Level, ...]]
    """Layer, or group -> its options."""
    knobs: Knobs = field(default_factory=Knobs)
    members: Mapping[str, Member] = field(default_factory=dict)
    """Layer -> its place in a group, for the layers that share a level."""
    order: tuple[str, ...] = ()
    """Layers in the model's order, where there are groups."""

    @classmethod
    def grouped(
        cls,
        model_sha256: str,
        levels: Mapping[str, tuple[Level, ...]],
        groups: Sequence[Sequence[str]],
        seconds: Callable[[str, Level], float],
        knobs: Knobs | None = None,
    ) -> RecipeSpace:
        """The space in which the layers of each group share a pattern and a precision.

        Args:
            model_sha256: digest of the model.
            levels: every layer's own options in the model's order, one for each kind.
            groups: names of layers that share a level; no layer is in two.
            seconds: attributed latency of a layer at a level; it orders the options of a group.
            knobs: runtime settings of every recipe.

        Raises:
            AutoSparseError: the layers of a group have no level in common.
        """
        units = dict(levels)
        members: dict[str, Member] = {}
        firsts = {names[0]: names for names in groups}
        for first, names in firsts.items():
            own = {name: {x.without_method(): x for x in levels[name]} for name in names}
            common = [kind for kind in own[first] if all(kind in kinds for kinds in own.values())]
            if not common:
                raise AutoSparseError(f"{', '.join(names)} have no level in common")
            cost = {kind: sum(seconds(n, own[n][kind]) for n in names) for kind in common}
            common.sort(key=lambda kind: -cost[kind])
            group = group_name(names)
            units = {group if unit == first else unit: x for unit, x in units.items()}
            units[group] = tuple(common)
            for name in names:
                units.pop(name, None)
                members[name] = Member(group, tuple(own[name][kind] for kind in common))
        return cls(model_sha256, units, knobs or Knobs(), members, tuple(levels))

    @property
    def size(self) -> int:
        """Number of different recipes."""
        product = 1
        for options in self.levels.values():
            product *= len(options)
        return product

    @cached_property
    def layers(self) -> Mapping[str, Member]:
        """Every layer in the model's order, with the name of its parameter and its levels."""
        alone = {name: Member(name, options) for name, options in self.levels.items()}
        return {name: self.members.get(name) or alone[name] for name in self.order or alone}

    def distributions(self) -> dict[str, IntDistribution]:
        """One Optuna parameter for every layer, or group, that has a choice."""
        return {
            name: IntDistribution(0, len(options) - 1)
            for name, options in self.levels.items()
            if len(options) > 1
        }

    def recipe(self, parameters: Mapping[str, int]) -> Recipe:
        """The recipe at a point."""
        return Recipe(
            model_sha256=self.model_sha256,
            levels={n: m.levels[parameters.get(m.group, 0)] for n, m in self.layers.items()},
            knobs=self.knobs,
        )

    def parameters(self, recipe: Recipe) -> dict[str, int]:
        """The point of a recipe of this space."""
        point = {m.group: m.levels.index(recipe.levels[n]) for n, m in self.layers.items()}
        return {name: point[name] for name in self.distributions()}

    def changed(self, recipe: Recipe, levels: Mapping[str, Level]) -> Recipe:
        """A recipe of this space with some layers, or groups, at other options of theirs."""
        indices = {name: self.levels[name].index(level) for name, level in levels.items()}
        return self.recipe({**self.parameters(recipe), **indices})

    def contains(self, recipe: Recipe) -> bool:
        """Whether the recipe is a point of this space."""
        return (
            recipe.recovered is None
            and recipe.knobs == self.knobs
            and recipe.levels.keys() == self.layers.keys()
            and all(level in self.layers[name].levels for name, level in recipe.levels.items())
            and (not self.members or self.recipe(self.parameters(recipe)).levels == recipe.levels)
        )

    def totals(self, of: Callable[[str, Level], float]) -> dict[tuple[str, Level], float]:
        """A quantity of every layer at its levels, and its sum for every group at its options."""
        found: dict[tuple[str, Level], float] = {}
        for name, member in self.layers.items():
            for option, level in zip(self.levels[member.group], member.levels, strict=True):
                value = of(name, level)
                found[name, level] = value
                if member.group != name:
                    unit = member.group, option
                    found[unit] = found.get(unit, 0.0) + value
        return found


def group_name(layers: Sequence[str]) -> str:
    """What layers that share a level are called together: `q (+2)` for `q`, `k` and `v`."""
    return f"{layers[0]} (+{len(layers) - 1})"
