"""Old files stay readable: one stored sample for every version of every schema.

A sample is what that version wrote, and is never changed. When a schema changes, its version
counts up, and what the new version writes is added as `samples/NAME.vN.json` (or `.yaml`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from autosparse.evaluation import Target
from autosparse.levels import Level, Recipe
from autosparse.pipeline.records import TrialRecord
from search_spaces import load_space
from tests.architecture.product import modules

SAMPLES = Path(__file__).parent / "samples"


def versioned_models() -> dict[str, type[BaseModel]]:
    """Every model of the product with a `schema_version`."""
    return {
        value.__name__: value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and "schema_version" in value.model_fields
    }


MODELS = versioned_models()


def read(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    return document


def sample(name: str, version: int) -> Path:
    (path,) = SAMPLES.glob(f"{name}.v{version}.*")
    return path


def test_the_models_are_found() -> None:
    assert MODELS.keys() >= {
        "CandidateRecord", "Cell", "Environment", "JobConfig", "Manifest", "Measurement",
        "Quality", "Recipe", "SpaceFile", "Target", "TrialRecord",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_version_that_can_be_read_has_a_sample(name: str) -> None:
    versions = get_args(MODELS[name].model_fields["schema_version"].annotation)
    assert versions, f"{name}.schema_version must be a Literal of the versions it can read"
    stored = {int(path.name.split(".")[1][1:]) for path in SAMPLES.glob(f"{name}.v*.*")}
    missing = set(versions) - stored
    assert not missing, f"add {SAMPLES.name}/{name}.v{min(missing)}.json"


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_a_sample_is_read_and_nothing_of_it_is_lost(path: Path) -> None:
    name, version, _ = path.name.split(".")
    document = read(path)
    assert document["schema_version"] == int(version[1:])
    loaded = MODELS[name].model_validate(document)
    assert_holds(loaded.model_dump(mode="json"), document)
    assert MODELS[name].model_validate_json(loaded.model_dump_json()) == loaded


def assert_holds(whole: Any, part: Any) -> None:
    """Everything in `part` is in `whole`, which may have more fields."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert_holds(whole[key], value)
    elif isinstance(part, list):
        assert len(whole) == len(part)
        for mine, theirs in zip(whole, part, strict=True):
            assert_holds(mine, theirs)
    else:
        assert whole == part


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_version_of_the_future_is_refused(name: str) -> None:
    document = read(sample(name, 1))
    with pytest.raises(ValueError, match="schema_version"):
        MODELS[name].model_validate({**document, "schema_version": 99})


def test_a_stored_recipe_keeps_its_id() -> None:
    """Trials, bundles and logs refer to it."""
    assert Recipe.load(sample("Recipe", 1)).id == "60a3ef089ad3"


def test_a_stored_trial_refers_to_its_recipe() -> None:
    record = TrialRecord.model_validate(read(sample("TrialRecord", 1)))
    assert record.recipe.id == record.evidence.recipe_id


def test_a_stored_environment_keeps_its_id() -> None:
    """Measurements of different environments are not compared."""
    environment: Any = MODELS["Environment"].model_validate(read(sample("Environment", 1)))
    assert environment.id == "fb8aff7efbc0"


def test_files_that_people_keep_are_read_by_their_own_loaders() -> None:
    assert Target.load(sample("Target", 1)).threads == 4
    assert len(load_space(str(sample("SpaceFile", 1))).levels) == 2


@pytest.mark.parametrize(
    "spelling",
    [
        "dense:fp32", "dense:bf16", "dense:int8", "dense:int4", "dense:int8+gptq",
        "unstructured@0.9:fp32", "unstructured@0.90:fp32+sparsegpt", "2:4:int8+wanda",
        "1:4:fp32", "block1x4@0.75:int8+magnitude",
    ],
)  # fmt: skip
def test_every_spelling_of_a_level_that_was_ever_written_is_read(spelling: str) -> None:
    level = Level.parse(spelling)
    assert Level.model_validate_json(f'"{spelling}"') == level
