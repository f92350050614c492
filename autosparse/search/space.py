"""The resolved search space: for each layer of one model, the levels that may be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optuna.distributions import IntDistribution

from autosparse.levels import Knobs, Level, Recipe


@dataclass(frozen=True)
class RecipeSpace:
    """Recipes as points with one integer per layer.

    A layer's levels are ordered from the slowest to the fastest, so that neighbouring integers
    are neighbouring choices; layers with one level are fixed and are no parameters.
    """

    model_sha256: str
    levels: Mapping[str, tuple[Level, ...]]
    knobs: Knobs = field(default_factory=Knobs)

    @property
    def size(self) -> int:
        """Number of different recipes."""
        product = 1
        for options in self.levels.values():
            product *= len(options)
        return product

    def distributions(self) -> dict[str, IntDistribution]:
        """One Optuna parameter per layer that has a choice."""
        return {
            name: IntDistribution(0, len(options) - 1)
            for name, options in self.levels.items()
            if len(options) > 1
        }

    def recipe(self, parameters: Mapping[str, int]) -> Recipe:
        """The recipe at a point."""
        return Recipe(
            model_sha256=self.model_sha256,
            levels={n: options[parameters.get(n, 0)] for n, options in self.levels.items()},
            knobs=self.knobs,
        )

    def parameters(self, recipe: Recipe) -> dict[str, int]:
        """The point of a recipe of this space."""
        return {n: self.levels[n].index(recipe.levels[n]) for n in self.distributions()}

    def contains(self, recipe: Recipe) -> bool:
        """Whether the recipe is a point of this space."""
        return (
            recipe.knobs == self.knobs
            and recipe.levels.keys() == self.levels.keys()
            and all(level in self.levels[name] for name, level in recipe.levels.items())
        )
