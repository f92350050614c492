"""Every built-in metric on an example worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autosparse.datasets import Dataset
from autosparse.errors import CandidateError, DataError
from autosparse.evaluation import scores
from autosparse.evaluation.metrics import BUILT_IN, Outputs, default_metric
from tests.evaluation.judging import judged

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)
NAN = math.nan


def outputs(values: Any, pairs: Any = None) -> Outputs:
    return Outputs(
        {"y": np.asarray(values, dtype=np.float32)},
        None if pairs is None else {"y": np.asarray(pairs, dtype=np.float32)},
    )


# metric, outputs, dense outputs (None: the same), labels, score of each row, value
EXAMPLES: list[tuple[str, Outputs, Outputs | None, Any, list[float], float]] = [
    ("top1", outputs([[1, 3, 2], [5, 5, 0], [0, 1, 0]]), None, [1, 0, 2], [1, 1, 0], 2 / 3),
    # equal outputs: the earlier is ahead
    ("top5", outputs([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 1, 1, 1, 1, 1]]), None,
     [4, 5, 4], [1, 0, 1], 2 / 3),
    ("top5", outputs([[1, 1, 1, 1, 1, 1], [NAN, 5, 4, 3, 2, 1]]), None, [5, 1], [0, 0], 0.0),
    ("top5", outputs([[3, 2, 1]]), None, [2], [1], 1.0),  # three classes: never a miss
    # softmax of (0, ln 3) is (1/4, 3/4)
    ("cross_entropy", outputs([[0, LN3], [0, LN3]]), None, [0, 1], [LN4, LN4 - LN3],
     LN4 - LN3 / 2),
    # the second row has one label, the third none: three labels in all
    ("cross_entropy", outputs([[[0, LN3]] * 2, [[0, 0]] * 2, [[9, 9]] * 2]), None,
     [[0, 1], [1, -100], [-100, -100]], [LN4 - LN3 / 2, LN2, 0.0], (2 * LN4 - LN3 + LN2) / 3),
    ("mae", outputs([[1, 2], [0, 4]]), None, [[2.0, 0.0], [0.0, 4.0]], [1.5, 0.0], 0.75),
    ("mae", outputs([[1], [5]]), None, [2, 2], [1.0, 3.0], 2.0),
    ("rmse", outputs([[1], [5]]), None, [2.0, 2.0], [1.0, 9.0], math.sqrt(5)),
    # cosines 1, 0, -1 rank as the scores do
    ("spearman", outputs([[1, 0], [1, 0], [2, 0]], [[3, 0], [0, 1], [-1, 0]]), None,
     [5.0, 2.5, 0.0], [1, 0, -1], 1.0),
    ("spearman", outputs([[1, 0], [1, 0], [2, 0]], [[3, 0], [0, 1], [-1, 0]]), None,
     [5, 0, 2], [1, 0, -1], 0.5),
    # a zero vector has no direction; ranks 1.5, 1.5, 3 against 1, 2, 3
    ("spearman", outputs([[0, 0], [1, 0], [1, 0]], [[1, 0], [0, 1], [1, 0]]), None,
     [1, 2, 3], [0, 0, 1], math.sqrt(3) / 2),
    ("spearman", outputs([[1, 0], [1, 0]], [[1, 0], [2, 0]]), None, [1, 2], [1, 1], 0.0),
    # (1/4, 3/4) of the dense model against (1/2, 1/2)
    ("kl", outputs([[0, 0], [0, LN3]]), outputs([[0, LN3], [0, LN3]]), None,
     [LN2 - LN4 + 0.75 * LN3, 0.0], (LN2 - LN4 + 0.75 * LN3) / 2),
    ("relative_error", outputs([[3, 4], [1, 1]]), outputs([[3, 5], [1, 1]]), None,
     [1 / 34, 0.0], 1 / 68),
    # the second halves of pairs count as much as the first
    ("kl", outputs([[0, LN3]], [[0, 0]]), outputs([[0, LN3]], [[0, LN3]]), None,
     [(LN2 - LN4 + 0.75 * LN3) / 2], (LN2 - LN4 + 0.75 * LN3) / 2),
    ("relative_error", outputs([[3, 4]], [[0, 0]]), outputs([[3, 4]], [[3, 4]]), None,
     [0.5], 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mine", "dense", "labels", "rows", "value"), EXAMPLES)
def test_examples(
    name: str, mine: Outputs, dense: Outputs | None, labels: Any, rows: list[float], value: float
) -> None:
    metric, truth = BUILT_IN[name], None if labels is None else np.asarray(labels)
    found = metric.score(mine, dense or mine, truth)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, rows, atol=1e-6)
    assert metric.aggregate(found, truth) == pytest.approx(value, abs=1e-6)


def test_every_metric_has_an_example() -> None:
    assert {example[0] for example in EXAMPLES} == set(BUILT_IN)


def test_is_mean_tells_which_intervals_can_average_rows() -> None:
    assert {name for name, metric in BUILT_IN.items() if not metric.is_mean} == {
        "cross_entropy", "rmse", "spearman",
    }  # fmt: skip


def test_lower_is_better_for_errors() -> None:
    assert {name for name, metric in BUILT_IN.items() if metric.higher_is_better} == {
        "top1", "top5", "spearman",
    }  # fmt: skip


LOGITS = outputs([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("name", "answers", "labels", "reason"),
    [
        ("top5", LOGITS, None, "top5 needs labels of shape"),
        ("top5", LOGITS, [0.0, 1.0], "top5 needs labels of shape"),
        ("top5", LOGITS, [0, 2], "labels reach from 0 to 2, the model's first output has 2"),
        ("cross_entropy", LOGITS, [0.5, 1.0], "cross_entropy needs labels of shape"),
        ("cross_entropy", LOGITS, [0, -1], "labels reach from -1 to 0"),
        ("cross_entropy", LOGITS, [[0, 1], [0, 1]], "do not fit the model's first output"),
        ("mae", LOGITS, None, "mae needs labels that are finite numbers"),
        ("rmse", LOGITS, [0.0, NAN], "rmse needs labels that are finite numbers"),
        ("rmse", LOGITS, ["a", "b"], "rmse needs labels that are finite numbers"),
        ("rmse", LOGITS, [0.0, 1.0], "2 per row, not 1"),
        ("spearman", LOGITS, [0.0, 1.0], "spearman compares pairs"),
        ("spearman", outputs([[1, 0]], [[1, 0]]), [[1.0]], "scores of shape"),
        ("spearman", outputs([[1, 0]], [[1, 0]]), None, "finite numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    name: str, answers: Outputs, labels: Any, reason: str
) -> None:
    truth = None if labels is None else np.asarray(labels)
    with pytest.raises(DataError) as caught:
        BUILT_IN[name].score(answers, answers, truth)
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["cross_entropy", "rmse", "spearman"])
def test_a_drop_of_what_is_no_mean_has_an_interval_around_it(name: str) -> None:
    rng = np.random.default_rng(0)
    rows, pairs = rng.standard_normal((2, 80, 4))
    labels: npt.NDArray[np.generic] = np.arange(80) % 4
    if name == "rmse":
        labels = rows + 0.1 * rng.standard_normal((80, 4))
    if name == "spearman":
        labels = (rows * pairs).sum(axis=1)
    dense = outputs(rows, pairs)
    worse = outputs(rows + rng.standard_normal((80, 4)), pairs)
    data = Dataset({"x": rows}, labels, {"x": pairs})
    quality = judged(BUILT_IN[name], worse, dense, data)
    assert quality.drop > 0
    assert quality.drop_interval.low < quality.drop < quality.drop_interval.high
    same = judged(BUILT_IN[name], dense, dense, data)
    assert (same.drop, same.drop_interval.low, same.drop_interval.high) == (0, 0, 0)


def test_a_candidate_that_answers_nan_fails() -> None:
    dense = outputs([[1.0], [2.0]])
    broken = outputs([[NAN], [2.0]])
    data = Dataset({"x": np.zeros((2, 1))}, np.array([1.0, 2.0]))
    with pytest.raises(CandidateError, match="rmse is NaN or infinite for 1 of 2 rows"):
        judged(BUILT_IN["rmse"], broken, dense, data)


def test_rows_judged_block_by_block_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    mine, dense = (outputs(rng.standard_normal((7, 3, 5))) for _ in range(2))
    labels = rng.integers(0, 5, size=(7, 3))
    names = ("cross_entropy", "kl", "relative_error")
    whole = [BUILT_IN[name].score(mine, dense, labels) for name in names]
    monkeypatch.setattr(scores, "_BLOCK_ELEMENTS", 30)
    parts = [BUILT_IN[name].score(mine, dense, labels) for name in names]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("outputs_named", "facts", "name"),
    [
        (("y",), {"labelled": True}, "top1"),
        (("y",), {"labelled": True, "continuous": True}, "rmse"),
        (("y",), {"labelled": True, "continuous": True, "paired": True}, "spearman"),
        (("y",), {"labelled": True, "paired": True}, "spearman"),
        (("y",), {"labelled": False, "paired": True}, "relative_error"),
        (("Logits", "aux_logits"), {"labelled": False}, "kl"),
        (("logits", "hidden"), {"labelled": False}, "relative_error"),
    ],
)
def test_the_metric_of_data_that_came_without_one(
    outputs_named: tuple[str, ...], facts: dict[str, bool], name: str
) -> None:
    assert default_metric(outputs_named, **facts).name == name
