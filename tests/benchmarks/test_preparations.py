"""What is prepared is held against what is not, at levels that the preparation is meant for."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from autosparse.levels import Level
from autosparse.methods.preparations import PREPARATIONS
from autosparse.model_graph import ModelGraph, load_model
from autosparse.pipeline.config import Preparation
from benchmarks import preparations
from benchmarks.benchmark import Request
from benchmarks.lab_data import LabData
from benchmarks.preparations import LEVELS, PREPARED, PreparationsBenchmark
from tests.models import residual_cnn


def test_every_preparation_is_listed_and_those_with_a_place_are_measured() -> None:
    assert tuple(card.name for card in PREPARATIONS) == get_args(Preparation)
    assert set(PREPARED) == set(LEVELS) == set(get_args(Preparation)) - {"smooth"}
    for levels in LEVELS.values():
        assert all(Level.parse(spelling).method for spelling in levels)


class FakeLab:
    """Scores nothing but whether the weights are others."""

    def __init__(self, data: LabData, directory: Path) -> None:
        self.graph: ModelGraph = data.graph
        self.dense = 90.0

    def levels(self, level: Level) -> dict[str, Level]:
        return {layer.name: level for layer in self.graph.layers}

    def one_shot(self, levels: dict[str, Level]) -> dict[str, float]:
        return {
            name: float(abs(self.graph.weight(self.graph.layer(name))).sum()) for name in levels
        }

    def score(self, levels: dict[str, Level], weights: dict[str, float]) -> float:
        return 80.0 + weights["block2.b"] / 1000


def test_rows_compare_the_model_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load_model(residual_cnn().save(tmp_path / "net.onnx", "logits"))
    monkeypatch.setattr(preparations, "RecoveryLab", FakeLab)
    monkeypatch.setattr(preparations, "replace", lambda data, graph: Data(graph))
    monkeypatch.setattr(preparations, "image_data", lambda request: Data(graph))
    request = Request(quick=True, assets=tmp_path, directory=tmp_path)
    rows = list(PreparationsBenchmark().rows(request))
    expected = [f"resnet20: {level}, {name}" for name in PREPARED for level in LEVELS[name]]
    assert [row.what for row in rows] == expected
    assert all("of 2 places" in row.note for row in rows)
    equalized, permuted = rows[0], rows[-1]
    assert equalized.figure != equalized.opponent_figure
    # the same weights in another order
    assert permuted.figure == pytest.approx(permuted.opponent_figure, abs=1e-4)


class Data:
    """As much of `LabData` as is asked for."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph


def test_without_the_assets_the_rows_are_skipped(tmp_path: Path) -> None:
    request = Request(quick=True, assets=tmp_path, directory=tmp_path / "run")
    (row,) = PreparationsBenchmark().rows(request)
    assert row.note.startswith("skipped: there is no ")
