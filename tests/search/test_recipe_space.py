"""Recipe spaces: points are recipes, and recipes are points."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import IntDistribution

from autosparse.levels import BASELINE, Knobs, Level, Recipe
from autosparse.search import RecipeSpace

INT8, SPARSE = Level.parse("dense:int8"), Level.parse("2:4:int8")
SPACE = RecipeSpace(
    "0" * 64,
    {"a": (BASELINE, INT8, SPARSE), "fixed": (INT8,), "b": (BASELINE, INT8)},
    Knobs(graph_level="extended"),
)


def test_the_size_is_the_number_of_recipes() -> None:
    assert SPACE.size == 6
    assert RecipeSpace("0", {"a": (BASELINE,)}).size == 1
    assert RecipeSpace("0", {}).size == 1


def test_layers_without_a_choice_are_no_parameters() -> None:
    assert SPACE.distributions() == {"a": IntDistribution(0, 2), "b": IntDistribution(0, 1)}


def test_every_point_is_another_recipe_and_back() -> None:
    points = [{"a": a, "b": b} for a in range(3) for b in range(2)]
    recipes = [SPACE.recipe(point) for point in points]
    assert len({recipe.id for recipe in recipes}) == SPACE.size
    assert [SPACE.parameters(recipe) for recipe in recipes] == points
    assert all(SPACE.contains(recipe) for recipe in recipes)


def test_a_recipe_has_a_level_for_every_layer_in_the_models_order() -> None:
    recipe = SPACE.recipe({"b": 1, "a": 2})
    assert recipe == Recipe(
        model_sha256="0" * 64,
        levels={"a": SPARSE, "fixed": INT8, "b": INT8},
        knobs=Knobs(graph_level="extended"),
    )
    assert list(recipe.levels) == ["a", "fixed", "b"]


def test_a_parameter_that_is_left_out_is_the_slowest_level() -> None:
    assert SPACE.recipe({}).levels == {"a": BASELINE, "fixed": INT8, "b": BASELINE}


def test_other_recipes_are_no_points() -> None:
    inside = SPACE.recipe({"a": 1, "b": 1})

    def other(**changes: object) -> Recipe:
        return inside.model_copy(update=changes)

    levels = inside.levels
    assert SPACE.contains(inside)
    assert not SPACE.contains(other(levels={**levels, "b": SPARSE}))
    assert not SPACE.contains(other(levels={**levels, "fixed": BASELINE}))
    assert not SPACE.contains(other(levels={**levels, "more": BASELINE}))
    assert not SPACE.contains(other(levels={"a": INT8, "b": INT8}))
    assert not SPACE.contains(other(knobs=Knobs()))


@given(st.dictionaries(st.text(max_size=5), st.integers(1, 4), max_size=6), st.data())
def test_points_and_recipes_agree_whatever_the_layers_are_called(
    widths: dict[str, int], data: st.DataObject
) -> None:
    options = (BASELINE, INT8, SPARSE, Level.parse("1:4:int8"))
    space = RecipeSpace("0", {name: options[:width] for name, width in widths.items()})
    point = {
        name: data.draw(st.integers(d.low, d.high)) for name, d in space.distributions().items()
    }
    assert space.parameters(space.recipe(point)) == point
