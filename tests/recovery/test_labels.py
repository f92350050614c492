"""Labels beside the teacher: a training that is given some ends nearer to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)

from autosparse.datasets import Dataset
from autosparse.model_graph import ModelGraph
from autosparse.recovery.averaging import train
from autosparse.recovery.fine_tune import FineTune
from autosparse.recovery.members import Subject
from tests.recovery.lessons import QUICK, answers, levels_of, rows_of, weights_of


def labelled(graph: ModelGraph, dtype: str) -> Dataset:
    """Rows whose class is the one behind the dense model's choice."""
    rows = rows_of()
    chosen = answers(graph, {}, dict(rows.inputs)).argmax(axis=1)
    return replace(rows, labels=((chosen + 1) % 10).astype(dtype))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_labels_of_any_integer_type_are_learned_from(residual: ModelGraph, dtype: str) -> None:
    rows = labelled(residual, dtype)
    levels = levels_of(residual, "unstructured@0.5:fp32")
    subject = Subject(residual, levels, weights_of(residual, levels), FineTune())

    def far(weight: float) -> float:
        plan = QUICK.model_copy(update={"labels": weight, "steps": 40})
        outcome = train(subject, rows, plan)
        logits = answers(residual, outcome.weights, dict(rows.inputs))
        assert rows.labels is not None
        truth = torch.tensor(rows.labels.astype(np.int64))
        return float(F.cross_entropy(torch.tensor(logits), truth))

    assert far(20.0) < 0.8 * far(0.0)
