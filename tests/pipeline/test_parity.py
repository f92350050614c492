from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.evaluation import Verdict
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.pipeline import correction, optimize, parity
from autosparse.pipeline.job import prepare_job
from autosparse.pipeline.parity import Parity, check_parity
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.workspace import open_workspace
from backends import BACKENDS
from tests.fakes.fake_backend import Planted
from tests.models import Net
from tests.pipeline.worlds import WIDTH, World, layer_seconds, summed_error


@dataclass
class Notes(Silent):
    """Remembers what it was told."""

    told: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.told.append(text)


def plain(net: Net) -> str:
    return net.node("Relu", net.input("x", "batch", WIDTH))


def fixed_batch(net: Net) -> str:
    return net.node("Relu", net.input("x", 3, WIDTH))


def shrunk(net: Net) -> str:
    """An operator that the runtime has and the torch executor has not."""
    return net.node("Shrink", net.input("x", "batch", WIDTH), name="shrink")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path, 2, Planted(layer_seconds, summed_error({})))


def run_in(
    world: World, source: Callable[[Net], str] | None = None, *, fake: bool = False, **fields: Any
) -> tuple[Parity, list[str]]:
    """Check the parity of a small model, or of the world's own."""
    if source is not None:
        net = Net()
        weight = net.weight("fc.weight", WIDTH, 4)
        net.node("MatMul", source(net), weight, name="fc", to="logits")
        net.save(world.root / "model.onnx", "logits")
    notes = Notes()
    engines = replace(world.engines(), progress=notes)
    if not fake:
        engines = replace(engines, backend=BACKENDS.load("onnxruntime"))
    config = world.config(**fields)
    with open_workspace(config, resume=False) as workspace:
        return check_parity(prepare_job(config, workspace, engines)), notes.told


def test_agreement_is_told_with_its_error(world: World) -> None:
    found, notes = run_in(world, plain)
    assert found.holds
    assert found.relative_error is not None
    assert found.relative_error < 1e-5
    assert notes == [
        f"torch executor agrees with the runtime: relative error {found.relative_error:.1e}"
    ]


def test_a_fixed_batch_is_kept(world: World) -> None:
    found, _ = run_in(world, fixed_batch, batch_size=3)
    assert found.holds


def test_a_missing_operator_is_named(world: World) -> None:
    found, notes = run_in(world, shrunk)
    assert not found.holds
    missing = found.note
    assert missing == "the torch executor misses Shrink (node 'shrink')"
    assert notes == [f"methods that need gradients are not available: {missing}"]


def test_engines_that_disagree_are_a_warning(world: World) -> None:
    found, notes = run_in(world, fake=True)  # the fake answers with something of its own
    assert not found.holds
    assert found.relative_error is not None
    assert notes[0].startswith("warning: methods that need gradients are not available: ")
    assert f"relative error {found.relative_error:.1e}" in notes[0]


def test_a_torch_executor_that_fails_is_a_note(world: World) -> None:
    def two_rows_at_most(net: Net) -> str:
        """Fails in torch as in the runtime: the fake answers all the same."""
        return net.node("Reshape", plain(net), net.constant("shape", np.array([2, WIDTH])))

    found, (note,) = run_in(world, two_rows_at_most, fake=True)
    assert found.relative_error is None
    assert "the torch executor fails: " in note
    assert "while the torch executor ran Reshape" in note
    assert "\n" not in note


def test_without_parity_nothing_that_needs_torch_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake answers with something of its own: torch cannot stand for it."""

    def no_torch(*arguments: object) -> None:
        raise AssertionError("a correction was prepared with a torch that cannot be trusted")

    monkeypatch.setattr(correction, "StatisticsCorrection", no_torch)
    notes = Notes()
    result = world.run(engines=replace(world.engines(), progress=notes), trials=3)
    assert result.verdict is Verdict.MET
    (note,) = (n for n in notes.told if n.startswith("no correction of channel statistics: "))
    assert "the torch executor disagrees with the runtime" in note
    # the numbers in it are not escaped alike
    assert note.partition(", relative error")[0] in Path(result.bundle, "report.html").read_text(
        encoding="utf-8"
    )


def test_with_parity_the_correction_is_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[object] = []

    def prepare(job: object) -> str:
        prepared.append(job)
        return "it is enough to have been asked"

    monkeypatch.setattr(correction, "_prepare", prepare)
    monkeypatch.setattr(optimize, "check_parity", lambda job: Parity(0.0, "they agree"))
    told = {d.subject: d.told for d in world.run(trials=3).manifest.decisions}
    assert len(prepared) == 1
    assert told["Torch beside the runtime"] == "they agree"
    assert told["Correction of channel statistics"].startswith("not tried: it is enough")


def test_a_large_model_is_not_tried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_LARGEST_BYTES", 4 * WIDTH * 4 - 1)
    found, (note,) = run_in(world, plain)
    assert found.relative_error is None
    not_checked = "parity of torch and the runtime is not checked: "
    assert found.note.startswith(not_checked)
    assert note == f"methods that need gradients are not available: {found.note}"


def test_a_bug_of_ours_is_no_note(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what torch makes of a node is something that a job can do without."""

    def bug(self: object, inputs: object) -> None:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(GraphModule, "forward", bug)
    with pytest.raises(KeyError):
        run_in(world, plain)
