"""Do the labels fit the metric and the model's answers? Asked before anything is measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autosparse.datasets import Dataset
from autosparse.errors import DataError
from autosparse.evaluation.metrics import BUILT_IN, Metric, Outputs
from autosparse.evaluation.scores import IGNORED_LABEL, check_some_count
from autosparse.tensor_spec import TensorSpec


def check_labels(metric: Metric, output: TensorSpec, data: Dataset, role: str) -> None:
    """Make sure that a metric can judge the rows of a file.

    Beyond asking whether there are labels, an answer of zeros is judged on the rows with the
    smallest and the largest one: what the metric refuses there, it would refuse after the baseline
    was timed. Where the model does not tell the shape of its output, its first answers are asked
    instead (`autosparse.pipeline.first_answers`).

    Args:
        metric: the job's metric.
        output: the model's first output.
        data: the rows.
        role: `validation` or `test`: named in errors.

    Raises:
        DataError: there are no labels or pairs, or the labels are out of range or misshapen.
    """
    if metric.needs_pairs and data.pair_inputs is None:
        raise DataError(
            f"the metric {metric.name} compares pairs, and the {role} file has none",
            hint="save the second half of each pair as NAME_b beside NAME, and scores=...",
        )
    if not metric.needs_labels:
        return
    if data.labels is None:
        raise DataError(
            f"the metric {metric.name} needs labels, and the {role} file has none",
            hint="save them as labels=..., or leave --metric away to judge by divergence",
        )
    if metric.weighs_labels:
        check_some_count(data.labels)
    if tells_its_shape(metric, output):
        extremes = extreme_rows(data.labels)
        fixed = [dim for dim in output.shape[1:] if isinstance(dim, int)]
        answer = {output.name: np.zeros((len(extremes), *fixed), np.float32)}
        metric.score(Outputs(answer), Outputs(answer), data.labels[extremes])


def tells_its_shape(metric: Metric, output: TensorSpec) -> bool:
    """Whether an answer for a metric to judge can be made up: of one half, by code of ours.

    Args:
        metric: the job's metric.
        output: the model's first output.
    """
    free = any(not isinstance(dim, int) for dim in output.shape[1:])
    return metric.name in BUILT_IN and not metric.needs_pairs and bool(output.shape) and not free


def extreme_rows(labels: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """The rows that hold the smallest and the largest label, those that do not count left aside."""
    if labels.dtype.kind not in "iuf":
        return np.array([0])
    flat = labels.reshape(len(labels), -1)
    counted = flat != IGNORED_LABEL
    if not flat.size or not counted.any():
        return np.array([0])
    low = np.where(counted, flat, flat[counted].max()).argmin() // flat.shape[1]
    high = np.where(counted, flat, flat[counted].min()).argmax() // flat.shape[1]
    return np.unique([low, high])
