"""Recipe files of earlier versions: read as what they were, under the id they had."""

from __future__ import annotations

from pathlib import Path

from autosparse.levels import Recipe


def test_a_recipe_from_before_there_was_an_activation_type() -> None:
    recipe = Recipe.load(Path(__file__).parent / "recipe_without_activation_type.yaml")
    assert recipe.knobs.activation_type == "uint8"
    assert recipe.id == "56ebd8398de4"
