"""Recipe files of earlier versions: read as what they were, under the id they had."""

from __future__ import annotations

from pathlib import Path

from autosparse.levels import Recipe


def test_a_recipe_from_before_there_was_an_activation_type() -> None:
    recipe = Recipe.load(Path(__file__).parent / "recipe_without_activation_type.yaml")
    assert recipe.knobs.activation_type == "uint8"
    assert recipe.id == "56ebd8398de4"


def test_a_recipe_of_recovered_weights_is_another_one() -> None:
    recipe = Recipe.load(Path(__file__).parent / "recipe_without_activation_type.yaml")
    assert recipe.recovered is None
    assert recipe.model_copy(update={"recovered": "9f8e7d6c5b4a3928"}).id == "8adfa793f3ef"
