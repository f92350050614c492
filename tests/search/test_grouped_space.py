"""Layers that share a level: one parameter, and recipes in which they agree."""

from __future__ import annotations

import itertools

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import IntDistribution

from autosparse.errors import AutoSparseError
from autosparse.levels import BASELINE, Level
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.greedy import greedy_points
from autosparse.search.strategies import STRATEGIES
from autosparse.search.strategy import LATENCY_CONSTRAINT

ROUND, GPTQ, SPARSE = (
    Level.parse(text)
    for text in ("dense:int8+round_to_nearest", "dense:int8+gptq", "block1x4@0.75:int8+sparsegpt")
)
INT8, ZEROS = ROUND.without_method(), SPARSE.without_method()
# of q, k and v, k bears no zeros, and another method rounds it better
LEVELS = {
    "stem": (BASELINE, ROUND),
    "q": (BASELINE, ROUND, SPARSE),
    "mlp": (BASELINE, SPARSE),
    "k": (BASELINE, GPTQ),
    "v": (BASELINE, SPARSE, ROUND),
}
SECONDS = {BASELINE: 4.0, ROUND: 2.0, GPTQ: 2.0, SPARSE: 1.0}
GROUP = "q (+2)"


def grouped() -> RecipeSpace:
    return RecipeSpace.grouped("0" * 64, LEVELS, [("q", "k", "v")], lambda _, level: SECONDS[level])


def test_a_group_is_one_parameter_over_what_all_its_layers_may_have() -> None:
    space = grouped()
    one = IntDistribution(0, 1)
    assert space.distributions() == {"stem": one, GROUP: one, "mlp": one}
    assert space.levels[GROUP] == (BASELINE, INT8)
    assert space.size == 8


def test_every_layer_has_its_own_method_at_the_shared_level() -> None:
    recipe = grouped().recipe({GROUP: 1})
    assert recipe.levels == {
        "stem": BASELINE, "q": ROUND, "mlp": BASELINE, "k": GPTQ, "v": ROUND,
    }  # fmt: skip
    assert list(recipe.levels) == list(LEVELS)


def test_points_and_recipes_agree() -> None:
    space = grouped()
    points = [
        dict(zip(space.distributions(), chosen, strict=True))
        for chosen in itertools.product((0, 1), repeat=3)
    ]
    recipes = [space.recipe(point) for point in points]
    assert len({recipe.id for recipe in recipes}) == space.size
    assert [space.parameters(recipe) for recipe in recipes] == points
    assert all(space.contains(recipe) for recipe in recipes)


def test_a_recipe_in_which_they_differ_is_no_point() -> None:
    space = grouped()
    inside = space.recipe({GROUP: 1})
    apart = inside.model_copy(update={"levels": {**inside.levels, "v": BASELINE}})
    elsewhere = inside.model_copy(update={"levels": {**inside.levels, "q": SPARSE}})
    assert not space.contains(apart)
    assert not space.contains(elsewhere)


def test_a_change_of_a_group_changes_all_its_layers() -> None:
    space = grouped()
    start = space.recipe({"stem": 1})
    changed = space.changed(start, {GROUP: INT8, "mlp": SPARSE})
    assert changed == space.recipe({"stem": 1, GROUP: 1, "mlp": 1})


def test_a_group_costs_what_its_layers_cost_together() -> None:
    totals = grouped().totals(lambda _, level: SECONDS[level])
    assert totals[GROUP, BASELINE] == 12.0
    assert totals[GROUP, INT8] == 6.0
    assert totals["k", GPTQ] == 2.0
    assert totals["stem", ROUND] == 2.0


def test_layers_without_a_level_in_common_are_our_own_mistake() -> None:
    with pytest.raises(AutoSparseError, match="a, b have no level in common"):
        RecipeSpace.grouped(
            "0", {"a": (ROUND,), "b": (BASELINE,)}, [("a", "b")], lambda name, level: 0.0
        )


def test_without_groups_it_is_the_plain_space() -> None:
    plain = RecipeSpace("0" * 64, LEVELS)
    none = RecipeSpace.grouped("0" * 64, LEVELS, [], lambda name, level: SECONDS[level])
    assert none.levels == plain.levels
    assert none.recipe({"q": 2}) == plain.recipe({"q": 2})
    assert none.totals(lambda name, level: SECONDS[level]) == {
        (name, level): SECONDS[level] for name, options in LEVELS.items() for level in options
    }


@given(st.data())
def test_any_division_into_groups_gives_agreeing_recipes(data: st.DataObject) -> None:
    names = [f"layer{i}" for i in range(7)]
    kinds = (BASELINE, ROUND, SPARSE)
    levels = {
        name: (BASELINE, *data.draw(st.lists(st.sampled_from(kinds[1:]), unique=True)))
        for name in names
    }
    mixed = data.draw(st.permutations(names))
    groups = [tuple(mixed[:2]), tuple(mixed[2:5])]
    space = RecipeSpace.grouped("0", levels, groups, lambda _, level: SECONDS[level])
    point = {
        name: data.draw(st.integers(d.low, d.high)) for name, d in space.distributions().items()
    }
    recipe = space.recipe(point)
    assert space.parameters(recipe) == point
    assert list(recipe.levels) == names
    for group in groups:
        assert len({recipe.levels[name] for name in group}) == 1
    assert all(recipe.levels[name] in levels[name] for name in names)


def context(bound: float) -> StrategyContext:
    space = grouped()
    errors = {BASELINE: 0.0, ROUND: 1.0, GPTQ: 1.0, SPARSE: 5.0}

    def ratio(point: object) -> float:
        assert isinstance(point, dict)
        return sum(SECONDS[x] for x in space.recipe(point).levels.values()) / 20.0

    return StrategyContext(
        space=space,
        seconds=space.totals(lambda _, level: SECONDS[level]),
        divergence=space.totals(lambda _, level: errors[level]),
        weight_error=space.totals(lambda *_: 0.0),
        lamp=space.totals(lambda *_: 0.0),
        latency_bound=bound,
        predicted_ratio=ratio,
        seed=0,
    )


def test_greedy_points_weigh_a_group_with_all_its_layers() -> None:
    # 20 dense; the group saves 6 at an error of 3, the stem 2 at 1, the mlp 3 at 5
    points = greedy_points(context(bound=0.7))
    assert {"stem": 0, GROUP: 1, "mlp": 0} in points


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_proposes_groups_as_one(name: str) -> None:
    given_context = context(bound=0.8)
    strategy = STRATEGIES.load(name)
    study = optuna.create_study(
        directions=["minimize"] * strategy.objectives, sampler=strategy.sampler(given_context)
    )
    space = given_context.space
    for _ in range(12):
        trial = study.ask(fixed_distributions=dict(space.distributions()))
        recipe = space.recipe(trial.params)
        assert space.contains(recipe)
        ratio = given_context.predicted_ratio(dict(trial.params))
        loss = sum(given_context.divergence[item] for item in recipe.levels.items())
        trial.set_constraint(LATENCY_CONSTRAINT, ratio / 0.8 - 1)
        study.tell(trial, [loss, ratio][: strategy.objectives])
