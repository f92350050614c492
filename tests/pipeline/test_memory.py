"""What does not fit into memory is judged in parts, kept in files, or refused in a sentence."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.errors import DataError
from autosparse.evaluation import LoweredModel, answers
from autosparse.levels import Level
from autosparse.model_graph import ModelGraph
from autosparse.pipeline import first_answers, passes
from autosparse.pipeline.baseline import measure_baseline
from autosparse.pipeline.calibrate import Calibration, calibrate
from autosparse.pipeline.hessian_room import WORKING
from autosparse.pipeline.job import Job, prepare_job
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.parity import Parity
from autosparse.pipeline.probe import Probe
from autosparse.pipeline.workspace import Workspace, open_workspace
from autosparse.tensor_spec import TensorSpec
from backends import BACKENDS
from tests.fakes.fake_backend import Planted
from tests.models import Array, Floats
from tests.pipeline.worlds import WIDTH, World, layer_seconds, summed_error

LAYERS = 3
HESSIANS = "unstructured@0.50:fp32+sparsegpt"


def made(root: Path) -> World:
    return World.make(root, LAYERS, Planted(layer_seconds, summed_error({})))


def never(files: Mapping[str, LoweredModel]) -> None:
    pytest.fail("something was timed")


def prepared(world: World, **fields: Any) -> Job:
    """A job whose lane must not be asked."""
    with open_workspace(world.config(**fields), resume=False) as workspace:
        return prepare_job(world.config(**fields), workspace, world.engines(fail=never))


def first_logit(outputs: dict[str, Array], labels: Array | None) -> Floats:
    return np.asarray(outputs["logits"][:, 0], np.float32)


OWN_METRIC = f"{__name__}:first_logit"


def test_a_job_whose_answers_lie_in_files_is_the_same_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (1 << 30, 0):
        monkeypatch.setattr(answers, "IN_MEMORY_BYTES", most)
        world = made(tmp_path / str(most))
        result = world.run(trials=3)
        trials = Ledger(Workspace(world.root / "out").study).records
        found.append(
            (
                result.manifest.quality, result.manifest.recipe_id,
                [(t.recipe.id, t.quality, t.evidence.divergence_parts) for t in trials],
            )
        )  # fmt: skip
        report = Path(result.bundle, "report.html").read_text(encoding="utf-8")
        assert "agree" in report  # the guard-rails read answers that were kept
    assert found[0] == found[1]


def test_no_stage_of_a_job_gathers_all_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        pytest.fail("all answers are in memory at once")

    monkeypatch.setattr(answers, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(answers, "_InMemory", refuse)
    monkeypatch.setattr("autosparse.pipeline.parity._compare", _no_parity)
    assert made(tmp_path).run(trials=2).manifest.quality.rows == 100


def _no_parity(job: Job) -> Any:
    """Parity looks at eight rows, which are gathered."""
    return Parity(None, "not asked")


def test_labels_are_held_against_the_first_answers_where_the_model_does_not_tell(
    tmp_path: Path,
) -> None:
    job = prepared(made(tmp_path))
    free = TensorSpec("logits", np.dtype(np.float32), ("batch", "classes"))
    job = replace(job, graph=replace(job.graph, outputs=(free,)))
    first_answers.check_first_answers(job)
    assert job.gating.labels is not None
    labels = job.gating.labels.copy()
    labels[17] = 9
    wrong = replace(job, gating=Dataset(job.gating.inputs, labels))
    with pytest.raises(DataError, match="to 9, the model's first output has 4 classes"):
        measure_baseline(wrong)


def test_a_metric_that_needs_all_answers_at_once_is_refused_where_they_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepared(made(tmp_path), metric=OWN_METRIC, max_drop="0.1")
    taken = 100 * 4 * 4  # rows, classes, bytes
    monkeypatch.setattr(first_answers, "free_memory", lambda: taken - 1)
    with pytest.raises(DataError) as caught:
        measure_baseline(job)
    assert "all 100 rows at once: they take 1.60 kB, and 1.60 kB of memory" in caught.value.message
    assert "built-in --metric" in caught.value.hint
    monkeypatch.setattr(first_answers, "free_memory", lambda: taken)
    first_answers.check_first_answers(job)
    built_in = replace(job, metric=prepared(made(tmp_path / "other")).metric)
    monkeypatch.setattr(first_answers, "free_memory", lambda: 0)
    first_answers.check_first_answers(built_in)


def calibrated(job: Job, level: str) -> Calibration:
    choices = [Choice(la, Level.parse(level), True, True, "") for la in job.graph.layers]
    return calibrate(job, choices)


@pytest.mark.parametrize(("together", "passes_made"), [(3, 1), (2, 4), (1, 6)])
def test_hessians_that_do_not_fit_together_are_those_of_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int, passes_made: int
) -> None:
    """Each is asked for twice, level by level, as the table is built."""
    given = prepared(made(tmp_path))
    engines = replace(given.engines, backend=BACKENDS.load("onnxruntime"))
    job, names = replace(given, engines=engines), [layer.name for layer in given.graph.layers]
    monkeypatch.setattr(passes, "free_memory", lambda: 1 << 30)
    whole = calibrated(job, HESSIANS)
    expected = {name: whole.of(name, {"hessian"}) for name in names}

    made_so_far: list[set[str]] = []

    class Counted(Probe):
        def __init__(self, job: Job, graph: ModelGraph, data: Dataset, *asked: Any) -> None:
            made_so_far.append(set(asked[0]))
            super().__init__(job, graph, data, *asked)

    monkeypatch.setattr(passes, "Probe", Counted)
    monkeypatch.setattr(passes, "free_memory", lambda: (WORKING + together) * 4 * WIDTH**2)
    parted = calibrated(job, HESSIANS)
    for name in (*names, *names):
        found, wanted = parted.of(name, {"hessian"}), expected[name]
        assert found.hessian is not None
        assert wanted.hessian is not None
        assert np.allclose(found.hessian, wanted.hessian, rtol=1e-5, atol=1e-6)
        assert found.rows == wanted.rows
    assert len(made_so_far) == passes_made
    # what needs no Hessian is known from the first pass on
    assert parted.of(names[0], {"input_norms"}).input_norms is not None
    assert parted.ranges.ranges("min_max") == whole.ranges.ranges("min_max")
    assert len(made_so_far) == passes_made


def test_memory_is_bounded_by_the_room_for_hessians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, width = 12, 512
    one = 4 * width**2
    world = World.make(tmp_path, count, Planted(layer_seconds, summed_error({})), width)
    job = prepared(world)
    most: dict[int, int] = {}
    for together in (count, 2):
        free = (WORKING + together) * one
        monkeypatch.setattr(passes, "free_memory", lambda free=free: free)
        tracemalloc.start()
        known = calibrated(job, HESSIANS)
        for layer in job.graph.layers:
            known.of(layer.name, {"hessian"})
        most[together] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most[count] > count * one
    # two, the copy of one, and what a product of rows takes while it is added
    assert most[2] < 7 * one


def test_a_method_that_reads_no_hessian_needs_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "free_memory", lambda: 0)
    job = prepared(made(tmp_path))
    known = calibrated(job, "unstructured@0.50:fp32+wanda")
    found = known.of(job.graph.layers[-1].name, {"input_norms"})
    assert found.input_norms is not None
    assert found.hessian is None
