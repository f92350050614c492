"""Guard-rails: what an average hides. Agreement, changed rows, accuracy per class, confidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autosparse.artifacts.report_data import ChangedRow, ClassAccuracy, Confidence, GuardRails
from autosparse.datasets import Dataset
from autosparse.evaluation.confidence import (
    best_temperature,
    calibration_error,
    log_probabilities,
)
from autosparse.evaluation.metrics import Outputs
from autosparse.evaluation.scores import Array

# More would make the report long; there are at most so many, the clearest first.
_MOST_CHANGED = 50


def guard_rails(
    delivered: Outputs, dense: Outputs, data: Dataset, numbers: npt.NDArray[np.int64]
) -> GuardRails | None:
    """Compare the two models' highest outputs row by row; None where rows have no class.

    Args:
        delivered: its answers.
        dense: the dense model's.
        data: the rows.
        numbers: (rows,): which row of the user's file each is.
    """
    labels = data.labels if data.pair_inputs is None else None
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return None
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
