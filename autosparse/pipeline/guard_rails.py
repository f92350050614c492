"""Guard-rails: what an average hides. Agreement, changed rows, accuracy per class, confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.artifacts.report_data import ChangedRow, ClassAccuracy, Confidence, GuardRails
from autosparse.artifacts.report_words import short
from autosparse.datasets import Dataset
from autosparse.evaluation.answers import Answers, in_batches
from autosparse.evaluation.confidence import (
    are_probabilities,
    best_temperature,
    calibration_error,
    log_probabilities,
)
from autosparse.evaluation.metrics import Metric
from autosparse.evaluation.scores import Array, Floats

# More would make the report long; there are at most so many, the clearest first.
_MOST_CHANGED = 50
# Rows that tell what kind of answer a model gives.
_LOOKED_AT = 64
# Numbers that are looked at together: a vocabulary's rows are long.
_AT_ONCE = 1 << 22
# What judges answers as numbers, whatever type the labels are stored in.
_OF_NUMBERS = ("mae", "rmse")

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BothAnswers:
    """Both models' answers to the same rows."""

    delivered: Answers
    dense: Answers


def why_no_choice(dense: Answers, data: Dataset, metric: Metric) -> str:
    """Why an answer is not one choice among classes, which rails are about; empty where it is.

    Args:
        dense: the dense model's answers to the rows.
        data: the rows.
        metric: what the job is judged by.
    """
    labels = data.labels
    if data.pair_inputs is not None:
        return "rows are pairs, and what counts of a pair is how near its two answers are"
    if metric.name in _OF_NUMBERS:
        return f"answers are numbers, judged by {metric.name}"
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        return f"the labels are {labels.dtype} values, and no class indices"
    if labels is not None and labels.ndim != 1:
        return f"the labels have the shape {labels.shape}, which is not one class for each row"
    return _why_outputs_are_none(dense, metric, labelled=labels is not None)


def _why_outputs_are_none(dense: Answers, metric: Metric, *, labelled: bool) -> str:
    few = dense.rows(slice(0, _LOOKED_AT))
    name, first = next(iter(few.values.items()))
    sizes = [size for size in first.shape[1:] if size > 1]
    if len(sizes) != 1:
        numbers = " x ".join(map(str, sizes)) + " numbers" if sizes else "one number"
        return f"the first output, {short(name)}, has {numbers} for each row, and not one per class"
    if labelled or metric.name == "kl" or "logit" in name.lower() or are_probabilities(few.first):
        return ""
    return (
        f"nothing says that the {sizes[0]} numbers of the first output, {short(name)}, are scores "
        "of classes: there are no labels, its name has no 'logit', rows are no probabilities, and "
        f"the metric is {short(metric.name)} and not kl"
    )


def guard_rails(
    answers: BothAnswers | None, data: Dataset, numbers: npt.NDArray[np.int64]
) -> GuardRails | None:
    """Compare the two models' highest outputs row by row.

    Args:
        answers: to the rows, each a choice among classes; None where they were not kept.
        data: the rows; what needs labels is left out where they have none.
        numbers: (rows,): which row of the user's file each is.
    """
    if answers is None:
        return None
    labels, found = data.labels, _choices(answers, len(data))
    same = found.delivered == found.dense
    fixed, broken = (None, None) if labels is None else _moved(found, labels)
    return GuardRails(
        agreement=float(same.mean()),
        fixed_rows=fixed,
        broken_rows=broken,
        classes=() if labels is None else _classes(found, labels),
        confidence=None if labels is None else _confidence(answers, labels),
        changed_rows=int((~same).sum()),
        changed=_changed(found, labels, numbers),
    )


@dataclass(frozen=True)
class _Choices:
    """(rows,) each: the class of the highest output, and how sure the dense model was."""

    delivered: _Integers
    dense: _Integers
    sureness: Floats


def _choices(answers: BothAnswers, rows: int) -> _Choices:
    found = _Choices(np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows))
    size = max(_AT_ONCE // answers.dense.rows(slice(0, 1)).first.shape[1], 1)
    for chosen, outputs in in_batches(answers.dense, rows, size):
        dense = outputs.first
        found.dense[chosen] = dense.argmax(axis=1)
        found.sureness[chosen] = np.exp(log_probabilities(dense).max(axis=1))
        found.delivered[chosen] = answers.delivered.rows(chosen).first.argmax(axis=1)
    return found


def _moved(found: _Choices, labels: Array) -> tuple[int, int]:
    """Rows that became right, and rows that became wrong."""
    right, was_right = found.delivered == labels, found.dense == labels
    return int((right & ~was_right).sum()), int((~right & was_right).sum())


def _classes(found: _Choices, labels: Array) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(
            label=int(label),
            rows=int(rows.sum()),
            baseline=float((found.dense[rows] == label).mean()),
            delivered=float((found.delivered[rows] == label).mean()),
        )
        for label in np.unique(labels)
        for rows in [labels == label]
    )


def _confidence(answers: BothAnswers, labels: Array) -> Confidence | None:
    delivered, dense = answers.delivered.loaded().first, answers.dense.loaded().first
    if not 0 <= int(labels.min()) <= int(labels.max()) < dense.shape[1]:
        return None
    mine, theirs = log_probabilities(delivered), log_probabilities(dense)
    temperature = best_temperature(mine, labels)
    return Confidence(
        baseline=calibration_error(theirs, labels),
        delivered=calibration_error(mine, labels),
        temperature=temperature,
        scaled=calibration_error(log_probabilities(mine / temperature), labels),
    )


def _changed(
    found: _Choices, labels: Array | None, numbers: npt.NDArray[np.int64]
) -> tuple[ChangedRow, ...]:
    """Rows with another answer, those first that the dense model was surest of."""
    rows = np.flatnonzero(found.delivered != found.dense)
    surest = rows[np.argsort(-found.sureness[rows], kind="stable")][:_MOST_CHANGED]
    return tuple(
        ChangedRow(
            row=int(numbers[row]), label=None if labels is None else int(labels[row]),
            dense=int(found.dense[row]), delivered=int(found.delivered[row]),
            sureness=float(found.sureness[row]),
        )
        for row in surest
    )  # fmt: skip
