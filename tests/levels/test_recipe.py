"""Recipes: the id is the content, and the file gives the same recipe again."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.errors import ConfigError
from autosparse.levels import BASELINE, Knobs, Level, Recipe
from tests.levels.test_level_spelling import levels

INT8 = Level.parse("dense:int8")
# what YAML might take for something else, and what shells and paths trip over
WEIRD_NAMES = (
    "yes", "null", "~", "1e3", "0x10", "2024-01-01", "a: b", "- a", "#a", "a #b", "'", '"', "",
    " lead", "trail ", "tab\there", "line\nbreak", "ü/λ/层", "../../etc/passwd", "a\x85b", "{x}",
    "a\u2028b", "&anchor", "*alias", "!tag", "%directive", "@at", "`tick", "?", "a" * 3000,
)  # fmt: skip

names = st.sampled_from(WEIRD_NAMES) | st.text(max_size=40)


def make(**changes: object) -> Recipe:
    fields: dict[str, object] = {"model_sha256": "ab" * 32, "levels": {"a": INT8, "b": BASELINE}}
    return Recipe.model_validate({**fields, **changes})


def test_the_id_depends_on_content_only() -> None:
    reordered = make(levels={"b": BASELINE, "a": INT8})
    spelled = make(levels={"a": "dense:int8", "b": "dense:fp32"}, knobs={"graph_level": "all"})
    assert make().id == reordered.id == spelled.id


@pytest.mark.parametrize(
    "other",
    [
        make(model_sha256="cd" * 32),
        make(levels={"a": INT8, "b": INT8}),
        make(levels={"a": INT8, "c": BASELINE}),
        make(levels={"a": INT8}),
        make(levels={"a": Level.parse("dense:int8+gptq"), "b": BASELINE}),
        make(knobs=Knobs(graph_level="basic")),
        make(knobs=Knobs(activation_type="int8")),
    ],
    ids=["model", "level", "name", "fewer", "method", "graph level", "activation type"],
)
def test_other_content_has_another_id(other: Recipe) -> None:
    assert other.id != make().id


def test_the_id_is_the_same_in_every_process() -> None:
    # recipe ids are stored: a changed digest would orphan every earlier trial
    assert make().id == "56ebd8398de4"


def test_compressed_layers_are_those_that_do_not_stay_as_they_came() -> None:
    assert make().compressed_layers == ("a",)


@settings(max_examples=50)
@given(st.dictionaries(names, levels, max_size=5))
def test_json_and_yaml_give_the_same_recipe_again(chosen: dict[str, Level]) -> None:
    recipe = make(levels=chosen)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe.model_validate(yaml.safe_load(recipe.to_yaml())) == recipe


def test_yaml_keeps_weird_layer_names(tmp_path: Path) -> None:
    recipe = make(levels=dict.fromkeys(WEIRD_NAMES, INT8))
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    again = Recipe.load(path)
    assert again == recipe
    assert again.id == recipe.id
    assert list(again.levels) == list(WEIRD_NAMES)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "valid dictionary"),
        (b"a: b: c", "mapping values"),
        (b"\xff\xfe\x00", "no recipe"),
        (b"[1, 2]", "valid dictionary"),
        (b"schema_version: 1\nlevels: {}", "model_sha256: Field required"),
        (b"schema_version: 2\nmodel_sha256: ab\nlevels: {}", "schema_version"),
        (b"model_sha256: ab\nlevels: {}\nsurprise: 1", "surprise: Extra inputs"),
        (b"model_sha256: ab\nlevels: {a: dense:int9}", "'dense:int9' is no level"),
        (b"model_sha256: ab\nlevels: {a: 8}", "levels.a"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Recipe.load(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*gone\.yaml: No such file"):
        Recipe.load(tmp_path / "gone.yaml")
