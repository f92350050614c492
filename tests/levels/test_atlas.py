"""The atlas on disk: what is found again, and by whom."""

from __future__ import annotations

from pathlib import Path

from autosparse.levels import Level
from autosparse.levels.atlas import Atlas, AtlasCell, LayerShape, Place

HERE = Place(
    environment="a" * 12, target="local-cpu", device="cpu", backend="onnxruntime", threads=1
)
SHAPE = LayerShape(operator="Conv", weight_shape=(8, 4, 3, 3), input_shape=(1, 4, 9, 9))
LEVEL = Level.parse("unstructured@0.9:fp32")


def cell(seconds: float, place: Place = HERE) -> AtlasCell:
    return AtlasCell(place=place, shape=SHAPE, level=LEVEL, seconds=seconds, model_sha256="0" * 64)


def test_what_was_put_is_found_by_the_next_process(tmp_path: Path) -> None:
    Atlas(tmp_path, HERE).put(cell(1e-6))
    found = Atlas(tmp_path, HERE).find(SHAPE, LEVEL)
    assert found == cell(1e-6)
    assert Atlas(tmp_path, HERE).find(SHAPE, Level.parse("2:4:int8")) is None


def test_the_method_makes_no_difference(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, HERE)
    atlas.put(cell(1e-6))
    assert atlas.find(SHAPE, LEVEL.model_copy(update={"method": "wanda"})) == cell(1e-6)


def test_the_last_record_counts(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, HERE)
    atlas.put(cell(1e-6))
    atlas.put(cell(2e-6))
    assert atlas.find(SHAPE, LEVEL) == cell(2e-6)
    assert Atlas(tmp_path, HERE).find(SHAPE, LEVEL) == cell(2e-6)


def test_another_place_knows_nothing_of_it(tmp_path: Path) -> None:
    Atlas(tmp_path, HERE).put(cell(1e-6))
    for change in ({"environment": "b" * 12}, {"threads": 2}, {"target": "board"}):
        other = HERE.model_copy(update=change)
        assert len(Atlas(tmp_path, other)) == 0
    assert len(Atlas(tmp_path, HERE)) == 1


def test_another_shape_knows_nothing_of_it(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, HERE)
    atlas.put(cell(1e-6))
    for change in ({"input_shape": (2, 4, 9, 9)}, {"groups": 2}, {"attributes": "strides=2,2"}):
        assert atlas.find(SHAPE.model_copy(update=change), LEVEL) is None


def test_a_shape_reads_like_one() -> None:
    strided = SHAPE.model_copy(update={"attributes": "strides=2,2"})
    assert SHAPE.title == "Conv 8x4x3x3 on 1x4x9x9"
    assert strided.title == "Conv 8x4x3x3 on 1x4x9x9, strides=2,2"
