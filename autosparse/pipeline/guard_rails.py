"""Guard-rails: what an average hides. Agreement, broken rows, accuracy per class."""

from __future__ import annotations

import numpy as np

from autosparse.artifacts.report_data import ClassAccuracy, GuardRails
from autosparse.datasets import Dataset
from autosparse.evaluation.metrics import Outputs


def guard_rails(delivered: Outputs, dense: Outputs, data: Dataset) -> GuardRails | None:
    """Compare the two models' highest outputs row by row; None where rows have no class."""
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
    )
