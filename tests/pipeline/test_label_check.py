"""Labels that do not fit are noticed at intake, where the model tells the shape of its answer."""

from __future__ import annotations

import numpy as np
import pytest

from autosparse.datasets import Dataset
from autosparse.errors import DataError
from autosparse.evaluation.metrics import load_metric
from autosparse.pipeline.label_check import check_labels
from autosparse.tensor_spec import TensorSpec

ROWS = 6
FLOAT = np.dtype(np.float32)


def check(metric: str, shape: tuple[int | str, ...], labels: object) -> None:
    data = Dataset({"x": np.zeros((ROWS, 2), np.float32)}, np.asarray(labels))
    check_labels(load_metric(metric), TensorSpec("logits", FLOAT, shape), data, "test")


@pytest.mark.parametrize(
    ("metric", "shape", "labels", "told"),
    [
        ("top1", ("batch", 4), [0, 1, 2, 3, 4, 0], "reach from 0 to 4"),
        ("top1", ("batch", 4), [0, 1, -1, 3, 2, 0], "reach from -1 to 3"),
        ("top5", (1, 4), [9] * ROWS, "reach from 9 to 9"),
        ("top1", ("batch", 4), [0.5] * ROWS, "needs labels of shape"),
        ("top1", ("batch", 4), [["a"]] * ROWS, "needs labels of shape"),
        ("cross_entropy", ("batch", 3, 5), [[0, 4, 5]] * ROWS, "reach from 0 to 5"),
        ("cross_entropy", ("batch", 3, 5), [[0, 4]] * ROWS, "do not fit"),
        ("cross_entropy", ("batch", 5), [-100] * ROWS, "every label is -100"),
        ("rmse", ("batch", 2), [[0.0, 1.0, 2.0]] * ROWS, "2 per row, not 3"),
        ("mae", ("batch", 1), [0.0, 1.0, np.nan, 2.0, 3.0, 4.0], "finite numbers"),
    ],
)
def test_labels_that_do_not_fit_are_told(
    metric: str, shape: tuple[int | str, ...], labels: object, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        check(metric, shape, labels)


@pytest.mark.parametrize(
    ("metric", "shape", "labels"),
    [
        ("top1", ("batch", 4), [0, 1, 2, 3, 3, 0]),
        ("cross_entropy", ("batch", 3, 5), [[0, 4, -100]] * ROWS),
        ("rmse", ("batch", 2), [[0.0, 1.0]] * ROWS),
        # the model does not tell how many classes there are
        ("top1", ("batch", "classes"), [0, 1, 2, 3, 99, 0]),
        ("top1", (), [0, 1, 2, 3, 99, 0]),
        ("kl", ("batch", 4), [99] * ROWS),
    ],
)
def test_nothing_else_is_refused(metric: str, shape: tuple[int | str, ...], labels: object) -> None:
    check(metric, shape, labels)


def test_the_users_own_code_is_not_run_on_made_up_answers() -> None:
    # it returns something that would be refused
    check("tests.evaluation.user_metric:one_number", ("batch", 4), [99] * ROWS)
