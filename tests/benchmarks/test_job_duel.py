"""What was delivered against an opponent: made-up answers, of which the verdict is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.evaluation import LoweredModel, Measurement
from autosparse.evaluation.measurement import Block
from autosparse.evaluation.metrics import Outputs
from autosparse.levels import Recipe
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from benchmarks import greedy_mix, toolkit_int8
from benchmarks.greedy_mix import GreedyLadder, Step
from benchmarks.job_cells import judge_int8, judge_mix
from benchmarks.job_duel import INT8, MIX, OURS, Duel
from benchmarks.model_files import Array, ModelFiles
from benchmarks.verdicts import Floats, Outcome

ROWS, CLASSES = 400, 4
RNG = np.random.default_rng(5)
TRUTH = RNG.integers(0, CLASSES, ROWS)
RECIPE = Recipe.model_validate({"model_sha256": "0", "levels": {"a": "dense:fp32"}})
STEP = Step(("b",), LoweredModel(Path(), "model.onnx"), 0.5)
LADDER = GreedyLadder(integer_layers=2, steps=(STEP,))


def measured(label: str, seconds: float) -> Measurement:
    block = Block(samples_seconds=(seconds,) * 3, slowdown=0.0, accepted=True)
    return Measurement(
        label=label, file_sha256="", target="t", environment="here", warmup_runs=0,
        blocks=(block,) * 4,
    )  # fmt: skip


def classes(wrong: int) -> Outputs:
    """Logits that choose another class than the true one in the first rows."""
    logits = np.zeros((ROWS, CLASSES))
    logits[np.arange(ROWS), (TRUTH + (np.arange(ROWS) < wrong)) % CLASSES] = 5.0
    return Outputs({"logits": logits})


def embeddings(noise: float) -> Outputs:
    """Pairs whose cosine is their score, but for noise."""
    rng = np.random.default_rng(7)
    angles = np.arccos(scores()) + noise * rng.standard_normal(ROWS)
    second = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Outputs({"e": np.tile([1.0, 0.0], (ROWS, 1))}, {"e": second})


def scores() -> Floats:
    return np.linspace(-0.9, 0.9, ROWS)


def duel(
    outputs: dict[str, Outputs],
    dense: Outputs,
    labels_metric: str,
    seconds: dict[str, float] | None = None,
) -> Duel:
    truths: dict[str, Array | None] = {"top1": TRUTH, "spearman": scores(), "": None}
    files = ModelFiles(
        name="tiny", onnx=Path("m.onnx"), calibration=Path(), validation=Path(),
        held_out=Dataset({"x": np.zeros((ROWS, 1))}, truths[labels_metric]),
        metric="relative_error" if labels_metric == "spearman" else "kl",
        labels_metric=labels_metric,
    )  # fmt: skip
    took = {BASELINE_LABEL: 2.0, OURS: 1.0, MIX: 1.0, INT8: 1.0, **(seconds or {})}
    timed = {label: measured(label, one) for label, one in took.items()}
    return Duel("tiny at 60%", files, timed, outputs, dense)


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [(60, 20, Outcome.WORSE), (20, 60, Outcome.BETTER), (21, 20, Outcome.TIE)],
)
def test_a_drop_is_judged_in_pairs(ours: int, theirs: int, outcome: Outcome) -> None:
    found = duel({OURS: classes(ours), MIX: classes(theirs)}, classes(0), "top1")
    row, ended = found.drop_against(MIX, "the mix")
    assert ended is outcome
    assert row.what == "tiny at 60%: top1 drop"
    assert row.bar == "not worse beyond the interval"
    assert row.holds is (outcome is not Outcome.WORSE)
    assert row.figure == pytest.approx(100 * ours / ROWS)
    assert row.opponent_figure == pytest.approx(100 * theirs / ROWS)
    assert row.note.startswith(f"{outcome.value}: ")
    assert f"ours {1 - ours / ROWS:.2%}, mix {1 - theirs / ROWS:.2%}" in row.note


def test_a_drop_may_be_worse_where_the_divergence_is_not() -> None:
    # the dense model is wrong where only the opponent is right
    dense = classes(100)
    found = duel({OURS: dense, MIX: classes(0)}, dense, "top1")
    assert found.divergence_against(MIX, "the mix")[1] is Outcome.BETTER
    row, outcome = found.drop_against(MIX, "the mix")
    assert (outcome, row.holds) == (Outcome.WORSE, False)
    assert row.figure == 0.0
    assert row.opponent_figure == pytest.approx(-25.0)


@pytest.mark.parametrize(("ours", "holds"), [(0.5, False), (0.02, True)])
def test_pairs_are_judged_by_their_rank_correlation(ours: float, *, holds: bool) -> None:
    dense = embeddings(0.0)
    found = duel({OURS: embeddings(ours), MIX: embeddings(0.1)}, dense, "spearman")
    row, _ = found.drop_against(MIX, "the mix")
    assert row.holds is holds
    assert row.what == "tiny at 60%: spearman drop"
    assert "agreement" not in row.note
    alone = found.drop_alone()
    assert (alone.figure, alone.holds, alone.opponent) == (row.figure, None, "")


def test_a_cell_counts_both_verdicts_and_names_the_layers_of_a_lost_one() -> None:
    found = duel({OURS: classes(60), MIX: classes(20)}, classes(0), "top1")
    cell = judge_mix(found, LADDER, STEP, RECIPE, inside=True)
    divergence, drop = cell.rows
    assert "fp32 only in the mix" in divergence.note
    assert drop.opponent == divergence.opponent == f"{greedy_mix.NAME}, 1 of 2 layers INT8"
    assert cell.outcomes == cell.drops == {greedy_mix.NAME: Outcome.WORSE}


def test_without_labels_the_divergence_alone_is_judged() -> None:
    outputs = {OURS: classes(20), MIX: classes(60), INT8: classes(60)}
    found = duel(outputs, classes(0), "")
    mix = judge_mix(found, LADDER, STEP, RECIPE, inside=True)
    assert (len(mix.rows), mix.drops) == (1, {})
    assert judge_int8(found).outcomes == {toolkit_int8.NAME: Outcome.BETTER}


@pytest.mark.parametrize(
    ("step", "inside", "outcome"),
    [
        (None, True, Outcome.ONLY_OURS),
        (STEP, False, Outcome.ONLY_THEIRS),
        (None, False, Outcome.TIE),
    ],
)
def test_where_one_side_has_no_file_nothing_is_compared(
    step: Step | None, *, inside: bool, outcome: Outcome
) -> None:
    found = duel({OURS: classes(20)}, classes(0), "top1")
    cell = judge_mix(found, LADDER, step, RECIPE, inside=inside)
    (row,) = cell.rows
    assert (cell.outcomes, cell.drops) == ({greedy_mix.NAME: outcome}, {})
    assert row.holds is (outcome is not Outcome.ONLY_THEIRS)
    assert row.note.startswith(f"{outcome.value}: ")


@pytest.mark.parametrize("seconds", [0.9, 1.2])
def test_int8_is_held_against_files_of_its_latency_only(seconds: float) -> None:
    outputs = {OURS: classes(60), INT8: classes(20)}
    found = duel(outputs, classes(0), "top1", {OURS: seconds})
    assert judge_int8(found).rows == ()
    same = judge_int8(duel(outputs, classes(0), "top1"))
    assert same.drops == {toolkit_int8.NAME: Outcome.WORSE}
