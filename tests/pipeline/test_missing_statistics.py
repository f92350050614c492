"""Levels whose methods read what is not to be had are refused with the reason, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import Verdict
from autosparse.model_graph import load_model
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.model_graph.torch_executor.node import NodeFailedError
from autosparse.pipeline import calibrate, missing_statistics, optimize
from autosparse.pipeline.hessian_room import WORKING, hessian_groups, too_large
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.parity import Parity
from tests.models import block_with_norm
from tests.pipeline.sparse_world import SparseWorld
from tests.pipeline.test_sparse_pilot import cells_of
from tests.pipeline.worlds import WIDTH

INT8, MAGNITUDE = "dense:int8+round_to_nearest", "unstructured@0.8:fp32+magnitude"
GBLM, CHITA = "unstructured@0.9:fp32+gblm", "unstructured@0.95:fp32+chita"
ALPS = "unstructured@0.9:fp32+alps"
TORCH_IS_WRONG = "the torch executor disagrees with the runtime, relative error "


def run(planted: SparseWorld, *levels: str, **fields: Any) -> Result:
    space = planted.world.root / "space.yaml"
    listed = ", ".join(f'"{level}"' for level in levels)
    space.write_text(f"schema_version: 1\ndescription: Some levels.\nlevels: [{listed}]\n")
    return planted.world.run(
        engines=planted.engines, trials=3, space=str(space), latency_budget="60%", **fields
    )


def refuse(*given: object, **named: object) -> NoReturn:
    raise AssertionError("the model was differentiated by a torch that is known to be wrong")


def fails(self: GraphModule, *given: object, **named: object) -> NoReturn:
    raise NodeFailedError("index out of range, while the torch executor ran Gather (node 'g')")


def test_gradients_of_a_torch_that_is_wrong_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake answers with something of its own."""
    monkeypatch.setattr(calibrate, "GradientObserver", refuse)
    planted = SparseWorld.make(tmp_path)
    result = run(planted, INT8, MAGNITUDE, GBLM, CHITA)
    assert result.verdict is Verdict.MET
    assert all(cell.searched for cell in cells_of(tmp_path, MAGNITUDE))
    for level, method in ((GBLM, "gblm"), (CHITA, "chita")):
        cells = cells_of(tmp_path, level)
        assert [cell.layer for cell in cells] == list(planted.world.layers)
        told = f"{method} reads gradients of the model, and {TORCH_IS_WRONG}"
        assert all(not c.searched and c.reason.startswith(f"{c.layer}: {told}") for c in cells)
        assert all(cell.seconds is None for cell in cells), "nothing was timed for it"
        report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
        assert told in report


def test_a_layer_that_was_to_keep_such_a_level_is_an_error_with_its_reason(tmp_path: Path) -> None:
    planted = SparseWorld.make(tmp_path)
    with pytest.raises(
        ConfigError, match=f"gblm reads gradients of the model, and {TORCH_IS_WRONG}"
    ):
        run(planted, INT8, GBLM, CHITA, keep=(f"{planted.world.layers[0]}={GBLM}",))


def test_an_operator_that_fails_in_torch_is_named_and_the_job_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the few rows of the comparison it did not."""
    monkeypatch.setattr(optimize, "check_parity", lambda job: Parity(0.0, "they agree"))
    monkeypatch.setattr(GraphModule, "forward", fails)
    planted = SparseWorld.make(tmp_path)
    result = run(planted, INT8, MAGNITUDE, GBLM)
    assert result.verdict is Verdict.MET
    told = "the torch executor fails: index out of range, while the torch executor ran Gather"
    cells = cells_of(tmp_path, GBLM)
    assert len(cells) == len(planted.world.layers)
    assert all(not c.searched and f"no gradients: {told}" in c.reason for c in cells)
    assert all(cell.searched for cell in cells_of(tmp_path, MAGNITUDE))
    notes = planted.progress.told
    assert sum(note.startswith(f"no gradients: {told}") for note in notes) == 1
    assert any(n.startswith(f"no correction of channel statistics: {told}") for n in notes)
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert f"by magnitude alone was not found out: {told}" in report


def test_a_hessian_without_room_costs_the_levels_that_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_statistics, "free_memory", lambda: (1 + WORKING) * 4 * WIDTH**2 - 1)
    planted = SparseWorld.make(tmp_path)
    result = run(planted, INT8, MAGNITUDE, ALPS)
    assert result.verdict is Verdict.MET
    sizes = "it takes 256 B, what is made of it up to 3.84 kB, and 4.09 kB of memory are free"
    cells = cells_of(tmp_path, ALPS)
    assert [c.reason for c in cells] == [
        f"{layer}: alps reads a Hessian of its inputs: {sizes}" for layer in planted.world.layers
    ]
    assert all(cell.searched for cell in cells_of(tmp_path, MAGNITUDE))
    assert any("a Hessian are refused for layer0 and 2 more" in n for n in planted.progress.told)
    report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
    assert sizes in report


def test_layers_are_put_together_as_there_is_room(tmp_path: Path) -> None:
    """Two layers read the same rows, and have one Hessian of 8 x 8; the third has 16 x 16."""
    graph = load_model(block_with_norm().save(tmp_path / "model.onnx", "y"))
    small, large = 4 * 8 * 8, 4 * 16 * 16
    every = [layer.name for layer in graph.layers]
    assert every == ["q", "up", "down"]
    at_work = WORKING * large
    assert hessian_groups(graph, graph.layers, at_work + small + large) == (("q", "up", "down"),)
    for free in (at_work + small + large - 1, at_work + small, 0):
        assert hessian_groups(graph, graph.layers, free) == (("q", "up"), ("down",))
    assert hessian_groups(graph, graph.layers[1:], at_work) == (("up",), ("down",))
    assert hessian_groups(graph, (), 0) == ()
    assert too_large(graph, graph.layers, at_work + large) == {}
    assert too_large(graph, graph.layers, at_work + large - 1) == {"down": large}
    assert too_large(graph, graph.layers, 0) == {"q": small, "up": small, "down": large}
