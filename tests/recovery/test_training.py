"""What every training keeps to: zeros, grids, its checkpoint, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autosparse.datasets import Dataset
from autosparse.errors import AutoSparseError, CandidateError, DataError
from autosparse.evaluation import LoweringRequest
from autosparse.levels import BASELINE, Recipe
from autosparse.model_graph import ModelGraph, load_model
from autosparse.recovery import Recovery, members
from autosparse.recovery.averaging import train
from autosparse.recovery.batch_norm import ChannelSums
from autosparse.recovery.distillation import answer_loss
from autosparse.recovery.fine_tune import FineTune
from autosparse.recovery.gradual import Gradual, GradualConfig
from autosparse.recovery.student import Student
from autosparse.recovery.training import CurvePoint, Training
from autosparse.recovery.training_data import TrainingData
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.lowering import subject
from tests.models import Floats, images, residual_cnn
from tests.recovery.lessons import (
    QUICK,
    Weights,
    answers,
    lesson,
    levels_of,
    rows_of,
    student_of,
    weights_of,
)


def error(found: Floats, expected: Floats) -> float:
    return float(((found - expected) ** 2).sum() / (expected**2).sum())


@pytest.mark.checks("fine_tune")
@pytest.mark.parametrize("level", ["unstructured@0.8:fp32", "2:4:fp32", "block1x4@0.5:fp32"])
def test_zeros_stay_where_they_are(residual: ModelGraph, level: str) -> None:
    before = weights_of(residual, levels_of(residual, level))
    outcome = lesson(residual, level, FineTune())
    for name, weight in before.items():
        zeros = outcome.weights[name].values == 0
        assert np.array_equal(zeros, weight.values == 0)
    assert outcome.end == "steps"
    assert outcome.steps == QUICK.steps
    assert outcome.after < 0.7 * outcome.before


def test_what_is_learned_is_what_is_measured(residual: ModelGraph) -> None:
    """The divergence on the rows held out is that of the exported weights."""
    outcome = lesson(residual, "unstructured@0.8:fp32", FineTune(), steps=8)
    (rows,) = TrainingData(rows_of(), QUICK.batch_size, QUICK.seed).held_out()
    inputs = {"image": rows.inputs["image"].numpy()}
    student, teacher = (
        {"logits": torch.tensor(answers(residual, weights, inputs))}
        for weights in (outcome.weights, {})
    )
    found = answer_loss(student, teacher, logits=True, temperature=1.0)
    assert found.item() == pytest.approx(outcome.after, rel=1e-3)


@pytest.mark.checks("training on integer grids")
def test_an_integer_grid_keeps_its_steps(residual: ModelGraph) -> None:
    """Without norms nothing is folded: the steps are those that came, to the bit."""
    level = "block1x4@0.5:int8"
    before = weights_of(residual, levels_of(residual, level))
    outcome = lesson(residual, level, FineTune(), batch_norms=False, learning_rate=1e-3)
    moved = 0
    for name, weight in before.items():
        after = outcome.weights[name]
        assert weight.scales is not None
        assert weight.integers is not None
        assert after.integers is not None
        assert after.scales is not None
        assert np.array_equal(after.scales, weight.scales)
        blocks = (weight.integers != 0).reshape(-1, 4).any(axis=1)
        assert not after.integers.reshape(-1, 4)[~blocks].any()
        moved += int((after.integers != weight.integers).sum())
    assert moved > 0


@pytest.mark.checks("training on integer grids")
def test_the_lowered_file_computes_what_was_trained(tmp_path: Path) -> None:
    """Weights and activations on the grids of the file: training sees what will be delivered."""
    rows = {"image": images(64)}
    what = subject(residual_cnn().save(tmp_path / "net.onnx", "logits"), rows)
    graph, backend = what.graph, OnnxRuntimeBackend()
    # the stem stays float, and reads what nobody rounds
    levels = {n: lv for n, lv in levels_of(graph, "dense:int8").items() if n != "block2.short"}
    chosen = {la.name: levels.get(la.name, BASELINE) for la in graph.layers}
    grids = backend.rounded_activations(graph, chosen, what.ranges)
    student = Student(graph, levels, weights_of(graph, levels), FineTune(), grids)
    student.insert_norms([{"image": torch.tensor(rows["image"])}])
    with torch.no_grad():
        expected = student.eval()({"image": torch.tensor(rows["image"])}, 1.0)["logits"].numpy()
    recipe = Recipe(model_sha256=graph.sha256, levels=chosen)
    request = LoweringRequest(graph, recipe, student.export(), what.ranges)
    lowered = backend.lower(request, tmp_path / "lowered")
    found = np.asarray(backend.open(lowered, threads=1).run(rows)["logits"], dtype=np.float32)
    dense = np.asarray(what.dense["logits"], dtype=np.float32)
    assert error(found, expected) < 0.1 * error(found, dense)


def test_a_training_that_is_killed_comes_to_the_same_weights(tmp_path: Path) -> None:
    """The process is killed outright behind a checkpoint, and another one goes on."""
    path = tmp_path / "checkpoint.pt"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from autosparse.model_graph import load_model\n"
        "from tests.recovery import test_training as t\n"
        "t.killed_training(Path(sys.argv[1]))\n"
    )
    model = residual_cnn().save(tmp_path / "net.onnx", "logits")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    graph = load_model(model)
    stored = torch.load(path, weights_only=True)
    assert 0 < stored["now"]["step"] < (QUICK.steps or 0)
    resumed = lesson(graph, "unstructured@0.8:fp32", FineTune(), checkpoint=path)
    undisturbed = lesson(graph, "unstructured@0.8:fp32", FineTune())
    for name, weight in undisturbed.weights.items():
        assert np.array_equal(resumed.weights[name].values, weight.values)
    assert [p.step for p in resumed.curve] == [p.step for p in undisturbed.curve]
    assert resumed.before == undisturbed.before


def killed_training(directory: Path) -> None:
    """Train until the second point of the curve, and be killed."""
    torch.set_num_threads(1)
    graph = load_model(directory / "net.onnx")
    data = TrainingData(rows_of(), QUICK.batch_size, QUICK.seed)
    seen: list[CurvePoint] = []

    def watch(point: CurvePoint) -> None:
        seen.append(point)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    student = student_of(graph, "unstructured@0.8:fp32", FineTune())
    Training(graph, student, data, QUICK, directory / "checkpoint.pt", watch).run()


def test_a_checkpoint_of_another_training_does_not_count(
    residual: ModelGraph, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    lesson(residual, "unstructured@0.8:fp32", FineTune(), checkpoint=path, steps=4)
    expected = lesson(residual, "2:4:fp32", FineTune(), steps=4)
    found = lesson(residual, "2:4:fp32", FineTune(), checkpoint=path, steps=4)
    assert weights_equal(found.weights, expected.weights)
    assert found.begun_anew
    assert not lesson(residual, "2:4:fp32", FineTune(), checkpoint=path, steps=4).begun_anew


@pytest.mark.parametrize(
    ("level", "every"), [("unstructured@0.7:fp32", 8), ("unstructured@0.8:fp32", 4)]
)
def test_the_levels_and_the_configuration_are_part_of_a_training(
    residual: ModelGraph, tmp_path: Path, level: str, every: int
) -> None:
    """At its start, a training from dense weights has nothing else to be told by."""
    path = tmp_path / "checkpoint.pt"
    first, other = Gradual(GradualConfig(every=8)), Gradual(GradualConfig(every=every))
    asked: dict[str, Any] = {"checkpoint": path, "steps": 16}
    lesson(residual, "unstructured@0.8:fp32", first, **asked)
    assert not lesson(residual, "unstructured@0.8:fp32", first, **asked).begun_anew
    assert lesson(residual, level, other, **asked).begun_anew


def test_another_machine_s_last_bits_do_not_end_a_training(
    residual: ModelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics of norms are sums of convolutions, which threads and processors order anew."""
    path, moments = tmp_path / "checkpoint.pt", ChannelSums.moments
    lesson(residual, "2:4:fp32", FineTune(), checkpoint=path, steps=4)

    def elsewhere(sums: ChannelSums) -> tuple[torch.Tensor, torch.Tensor]:
        mean, variance = moments(sums)
        return torch.nextafter(mean, mean + 1.0), torch.nextafter(variance, variance + 1.0)

    monkeypatch.setattr(ChannelSums, "moments", elsewhere)
    levels = levels_of(residual, "2:4:fp32")

    def gone_on(change: Callable[[Floats], Floats]) -> tuple[bool, int]:
        weights = {
            name: replace(weight, values=change(weight.values))
            for name, weight in weights_of(residual, levels).items()
        }
        what = members.Subject(residual, levels, weights, FineTune())
        later: list[CurvePoint] = []
        plan = QUICK.model_copy(update={"steps": 4})
        found = train(what, rows_of(), plan, path, later.append)
        return not found.begun_anew, len(later)

    # it was at its end
    assert gone_on(lambda values: np.nextafter(values, 2.0 * values)) == (True, 0)
    assert gone_on(lambda values: np.float32(1.01) * values) == (False, 4)


def test_a_damaged_checkpoint_is_begun_anew(residual: ModelGraph, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"PK\x03\x04 no checkpoint")
    found = lesson(residual, "2:4:fp32", FineTune(), checkpoint=path, steps=4)
    assert found.steps == 4
    assert found.begun_anew


def weights_equal(first: Weights, second: Weights) -> bool:
    return all(np.array_equal(first[n].values, second[n].values) for n in first)


def test_time_ends_a_training(residual: ModelGraph) -> None:
    outcome = lesson(residual, "unstructured@0.8:fp32", FineTune(), steps=None, seconds=0.5)
    assert outcome.end == "time"
    assert outcome.steps >= 1
    assert outcome.curve[-1].step == outcome.steps


def test_what_a_training_needs_before_its_first_step_is_part_of_it(
    residual: ModelGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    monkeypatch.setattr(
        members, "row_lengths", lambda graph, inputs: looked.append(time.monotonic())
    )
    levels = levels_of(residual, "2:4:fp32")
    trained = members.Subject(residual, levels, weights_of(residual, levels), FineTune())
    training = members.Member(0, QUICK).training(trained, rows_of())
    assert training._clock.began <= looked[0]


def test_what_does_not_improve_ends_early(residual: ModelGraph) -> None:
    """A rate so small that nothing changes: the second half is left out."""
    outcome = lesson(
        residual, "unstructured@0.8:fp32", FineTune(), steps=60, evaluations=30, patience=2,
        learning_rate=1e-30, batch_norms=False,
    )  # fmt: skip
    assert outcome.end == "no improvement"
    assert outcome.steps < 60


def test_the_best_state_is_given_back(residual: ModelGraph) -> None:
    """A rate that destroys the model: what came of the first steps is kept."""

    class Destroying(FineTune):
        def after_step(self, layers, moment, optimizer):  # type: ignore[no-untyped-def]
            if moment.progress > 0.5:
                for layer in layers:
                    layer.raw.data.mul_(-1.0)

    outcome = lesson(residual, "unstructured@0.8:fp32", Destroying(), steps=24)
    assert outcome.after < min(p.held_out for p in outcome.curve if p.step > 13)


def test_a_training_that_diverges_is_a_failed_candidate(residual: ModelGraph) -> None:
    with pytest.raises(CandidateError, match="diverged"):
        lesson(residual, "unstructured@0.8:fp32", Exploding())


class Exploding(Recovery):
    name = "exploding"

    def weight(self, layer, progress):  # type: ignore[no-untyped-def]
        return layer.raw * layer.mask * float("inf")


def test_a_recovery_that_breaks_the_zeros_is_found_out(residual: ModelGraph) -> None:
    class Dense(FineTune):
        def weight(self, layer, progress):  # type: ignore[no-untyped-def]
            return layer.raw + 0.01

    with pytest.raises(AutoSparseError, match="broke the zeros"):
        lesson(residual, "unstructured@0.8:fp32", Dense(), steps=2)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="12 rows"):
        TrainingData(rows_of(12), 32, 0)


def test_rows_that_are_held_out_are_never_learned_from() -> None:
    data = TrainingData(rows_of(), 32, 0)
    learned = {
        row.tobytes()
        for step in range(3 * data.steps_per_epoch)
        for row in data.batch(step).inputs["image"].numpy()
    }
    apart = {row.tobytes() for rows in data.held_out() for row in rows.inputs["image"].numpy()}
    assert len(apart) == 20
    assert not learned & apart


def test_pairs_are_rows_like_any_other() -> None:
    half = images(30)
    data = TrainingData(Dataset({"image": half}, None, {"image": half + 1}), 16, 0)
    assert data.rows == 54
    assert data.batch(0).labels is None
