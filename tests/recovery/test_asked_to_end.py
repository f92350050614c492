"""A training that is asked to end does so with what it has; another one goes on from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import CandidateError
from autosparse.model_graph import ModelGraph
from autosparse.recovery import RECOVERIES
from autosparse.recovery.averaging import train
from autosparse.recovery.members import Subject
from autosparse.recovery.training import CurvePoint, Outcome
from tests.recovery.lessons import QUICK, levels_of, rows_of, weights_of

LEVEL = "unstructured@0.8:fp32"


@dataclass
class Impatient:
    """Wants the answer behind so many points of the curve."""

    points: int
    seen: list[CurvePoint] = field(default_factory=list)

    def wants_it_now(self) -> bool:
        return len(self.seen) >= self.points


def begun(
    graph: ModelGraph, name: str, impatient: Impatient | None, checkpoint: Path | None = None
) -> Outcome:
    levels = levels_of(graph, LEVEL)
    subject = Subject(graph, levels, weights_of(graph, levels), RECOVERIES.load(name))
    if impatient is None:
        return train(subject, rows_of(), QUICK, checkpoint)
    watch, stop = impatient.seen.append, impatient.wants_it_now
    return train(subject, rows_of(), QUICK, checkpoint, watch, stop=stop)


def test_what_it_has_come_to_is_given_back_and_gone_on_from(
    residual: ModelGraph, tmp_path: Path
) -> None:
    path, impatient = tmp_path / "checkpoint.pt", Impatient(2)
    early = begun(residual, "fine_tune", impatient, path)
    assert early.end == "asked"
    assert early.steps == impatient.seen[-1].step < (QUICK.steps or 0)
    assert early.after < early.before
    resumed = begun(residual, "fine_tune", None, path)
    whole = begun(residual, "fine_tune", None)
    assert (resumed.end, resumed.steps) == ("steps", QUICK.steps)
    for name, weight in whole.weights.items():
        assert np.array_equal(resumed.weights[name].values, weight.values)


def test_what_is_asked_between_two_looks_is_looked_at_once_more(residual: ModelGraph) -> None:
    impatient = Impatient(0)  # from the beginning
    early = begun(residual, "fine_tune", impatient)
    assert (early.end, early.steps) == ("asked", 1)
    assert [point.step for point in impatient.seen] == [1]


@pytest.mark.parametrize("name", ["gradual", "swamp"])
def test_without_the_zeros_of_the_recipe_nothing_comes_of_it(
    residual: ModelGraph, name: str
) -> None:
    with pytest.raises(CandidateError, match="before the recovery training had the zeros"):
        begun(residual, name, Impatient(1))


def test_no_further_member_of_an_average_is_begun(residual: ModelGraph, tmp_path: Path) -> None:
    path, impatient = tmp_path / "checkpoint.pt", Impatient(1)
    early = begun(residual, "sparse_soup", impatient, path)
    assert early.end == "asked"
    assert early.steps < (QUICK.steps or 0) // 3
    resumed = begun(residual, "sparse_soup", None, path)
    assert (resumed.end, resumed.steps) == ("steps", QUICK.steps)
    assert list(tmp_path.glob("*.pt")) == []
