"""Metrics as users bring them: `tests.evaluation.user_metric:NAME`."""

from __future__ import annotations

from typing import Any

import numpy as np

from autosparse.evaluation.metrics import Floats
from tests.models import Array

NOT_CALLABLE = 3


def first_of_row(outputs: dict[str, Array], labels: Array | None) -> Floats:
    return np.asarray(outputs["y"][:, 0], dtype=np.float64)


def hits(outputs: dict[str, Array], labels: Array | None) -> Any:
    return (outputs["y"].argmax(axis=1) == labels).tolist()


def one_number(outputs: dict[str, Array], labels: Array | None) -> float:
    return 0.5
