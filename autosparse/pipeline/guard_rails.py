"""Guard-rails: what an average hides. Agreement, changed rows, accuracy per class, confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.artifacts.report_data import ChangedRow, ClassAccuracy, Confidence, GuardRails
from autosparse.datasets import Dataset
from autosparse.evaluation.answers import Answers
from autosparse.evaluation.confidence import (
    best_temperature,
    calibration_error,
    log_probabilities,
)
from autosparse.evaluation.metrics import Outputs
from autosparse.evaluation.scores import Array

# More would make the report long; there are at most so many, the clearest first.
_MOST_CHANGED = 50


@dataclass(frozen=True)
class BothAnswers:
    """Both models' answers to the same rows."""

    delivered: Answers
    dense: Answers


def tells_classes(data: Dataset) -> bool:
    """Whether rows have a class, which rails are about."""
    labels = data.labels if data.pair_inputs is None else None
    return labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)


def guard_rails(
    answers: BothAnswers | None, data: Dataset, numbers: npt.NDArray[np.int64]
) -> GuardRails | None:
    """Compare the two models' highest outputs row by row; None where rows have no class.

    Args:
        answers: to the rows; None where they were not kept.
        data: the rows.
        numbers: (rows,): which row of the user's file each is.
    """
    if answers is None or data.labels is None or not tells_classes(data):
        return None
    labels = data.labels
    if not _is_one_choice(answers.dense.rows(slice(0, 1))):
        return None
    delivered, dense = answers.delivered.loaded(), answers.dense.loaded()
    mine, theirs = delivered.first.argmax(axis=1), dense.first.argmax(axis=1)
    right, was_right = mine == labels, theirs == labels
    classes = []
    for label in np.unique(labels):
        rows = labels == label
        classes.append(
            ClassAccuracy(
                label=int(label),
                rows=int(rows.sum()),
                baseline=float(was_right[rows].mean()),
                delivered=float(right[rows].mean()),
            )
        )
    return GuardRails(
        agreement=float((mine == theirs).mean()),
        fixed_rows=int((right & ~was_right).sum()),
        broken_rows=int((~right & was_right).sum()),
        classes=tuple(classes),
        confidence=_confidence(delivered, dense, labels),
        changed_rows=int((mine != theirs).sum()),
        changed=_changed(delivered, dense, labels, numbers),
    )


def _is_one_choice(outputs: Outputs) -> bool:
    """Whether the first output is one number for each class; else the highest of it is no class."""
    shape: tuple[int, ...] = next(iter(outputs.values.values())).shape
    return sum(size > 1 for size in shape[1:]) <= 1


def _confidence(delivered: Outputs, dense: Outputs, labels: Array) -> Confidence | None:
    if not 0 <= int(labels.min()) <= int(labels.max()) < dense.first.shape[1]:
        return None
    mine, theirs = log_probabilities(delivered.first), log_probabilities(dense.first)
    temperature = best_temperature(mine, labels)
    return Confidence(
        baseline=calibration_error(theirs, labels),
        delivered=calibration_error(mine, labels),
        temperature=temperature,
        scaled=calibration_error(log_probabilities(mine / temperature), labels),
    )


def _changed(
    delivered: Outputs, dense: Outputs, labels: Array, numbers: npt.NDArray[np.int64]
) -> tuple[ChangedRow, ...]:
    """Rows with another answer, those first that the dense model was surest of."""
    mine, theirs = delivered.first.argmax(axis=1), dense.first.argmax(axis=1)
    sureness = np.exp(log_probabilities(dense.first).max(axis=1))
    rows = np.flatnonzero(mine != theirs)
    return tuple(
        ChangedRow(
            row=int(numbers[row]), label=int(labels[row]), dense=int(theirs[row]),
            delivered=int(mine[row]), sureness=float(sureness[row]),
        )
        for row in rows[np.argsort(-sureness[rows], kind="stable")][:_MOST_CHANGED]
    )  # fmt: skip
