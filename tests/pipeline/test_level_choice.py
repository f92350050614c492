"""What the level table's measurements decide before the search: 4-bit weights, activation type."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autosparse.evaluation import LoweredModel, LoweringRequest
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.levels.table import Cell
from autosparse.pipeline.job import Engines
from autosparse.pipeline.outrun import why_outrun
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.worlds import World, layer_seconds, summed_error


def cell(level: str, seconds: float | None, error: float, *, searched: bool = True) -> Cell:
    return Cell(
        layer="fc", level=Level.parse(level), searched=searched, seconds=seconds,
        weight_error=error,
    )  # fmt: skip


DENSE = cell("dense:fp32", 50e-6, 0.0)
INT8 = cell("dense:int8", 18e-6, 1e-5)


def test_4_bits_that_are_the_fastest_are_searched() -> None:
    assert not why_outrun(cell("dense:int4", 15e-6, 1e-2), [DENSE, INT8])


def test_4_bits_that_int8_outruns_are_not() -> None:
    reason = why_outrun(cell("dense:int4", 22e-6, 1e-2), [DENSE, INT8])
    assert reason == "fc: dense:int4 takes 22.0 us, and dense:int8 18.0 us with less error"


def test_only_levels_of_the_layer_that_may_be_chosen_count() -> None:
    slow = cell("dense:int4", 22e-6, 1e-2)
    elsewhere = INT8.model_copy(update={"layer": "other"})
    worse = cell("dense:int8", 18e-6, 0.5)
    not_searched = cell("dense:int8", 18e-6, 1e-5, searched=False)
    unmeasured = cell("dense:int8", None, 1e-5)
    assert not why_outrun(slow, [elsewhere, worse, not_searched, unmeasured, DENSE])


def test_two_methods_do_not_outrun_each_other() -> None:
    nearest = cell("dense:int4+round_to_nearest", 14e-6, 1e-2)
    assert not why_outrun(cell("dense:int4+gptq", 15e-6, 2e-2), [DENSE, INT8, nearest])


def test_other_levels_stay_whatever_their_time() -> None:
    assert not why_outrun(cell("dense:int8", 80e-6, 1e-5), [DENSE])


@dataclass
class TypedBackend(FakeBackend):
    """Lowers each activation type to a file of its own."""

    types: list[str] = field(default_factory=list)

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        self.types.append(request.recipe.knobs.activation_type)
        return super().lower(request, directory)


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


class TypedLane(FakeLane):
    """A machine on which files in int8 activations take another time."""

    factor = 1.0

    def _measurement(self, label, model):  # type: ignore[no-untyped-def]
        made = super()._measurement(label, model)
        if label != "int8":
            return made
        blocks = tuple(
            b.model_copy(
                update={"samples_seconds": tuple(s * self.factor for s in b.samples_seconds)}
            )
            for b in made.blocks
        )
        return made.model_copy(update={"blocks": blocks})


@pytest.mark.parametrize(
    ("factor", "chosen"), [(0.8, "int8"), (0.99, "uint8"), (1.0, "uint8"), (1.3, "uint8")]
)
def test_the_faster_activation_type_is_in_every_recipe(
    tmp_path: Path, factor: float, chosen: str
) -> None:
    planted = Planted(layer_seconds, summed_error({}))
    world = World.make(tmp_path, 3, planted)
    lane, notes = TypedLane(planted, world.layers), Notes()
    lane.factor = factor
    backend = TypedBackend(planted)
    world.run(engines=Engines(backend=backend, lane=lane, progress=notes), trials=4)
    delivered = Recipe.load(tmp_path / "out" / "bundle" / "recipe.yaml")
    assert delivered.knobs.activation_type == chosen
    assert any(level != BASELINE for level in delivered.levels.values())
    told = [text for text in notes.told if text.startswith("activations in")]
    assert told == [
        f"activations in {chosen} (INT8 over the baseline: uint8 0.400, int8 {0.4 * factor:.3f})"
    ]
    # both were made for the choice, and only the chosen one after it
    first = backend.types.index("int8")
    assert set(backend.types[first + 1 :]) == {chosen}


def test_a_resumed_job_does_not_decide_again(tmp_path: Path) -> None:
    planted = Planted(layer_seconds, summed_error({}))
    world = World.make(tmp_path, 3, planted)
    for factor in (0.8, 1.3):
        lane = TypedLane(planted, world.layers)
        lane.factor = factor
        engines = Engines(backend=TypedBackend(planted), lane=lane, progress=Silent())
        world.run(engines=engines, trials=4, resume=factor == 1.3)
        delivered = Recipe.load(tmp_path / "out" / "bundle" / "recipe.yaml")
        assert delivered.knobs.activation_type == "int8"
