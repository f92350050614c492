"""What measures may be killed: that is no verdict on the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from autosparse.errors import DisturbedError, KilledError, MeasurementError, ModelError
from autosparse.evaluation import LoweredModel, Verdict
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


class Executioner:
    """Kills a measurement now and then."""

    def __init__(self, every: int, error: type[MeasurementError] = KilledError) -> None:
        self.every = every
        self.error = error
        self.asked = 0

    def __call__(self, files: Mapping[str, LoweredModel]) -> None:
        self.asked += 1
        if self.asked % self.every == 0:
            raise self.error("the measuring process was killed by signal 9: it said nothing")


def world(root: Path) -> World:
    return World.make(root, 4, Planted(layer_seconds, summed_error({"layer1": 0.5})))


def test_a_job_whose_every_second_measurement_is_killed_ends_as_ever(tmp_path: Path) -> None:
    subject = world(tmp_path)
    killer = Executioner(2)
    result = subject.run(engines=subject.engines(fail=killer))
    assert result.verdict is Verdict.MET
    assert result.manifest.search.failed == 0
    assert killer.asked > 10


def test_a_file_that_always_ends_what_measures_it_is_given_up(tmp_path: Path) -> None:
    subject = world(tmp_path)
    with pytest.raises(ModelError, match="killed by signal 9"):
        subject.run(engines=subject.engines(fail=Executioner(1)))


def test_a_crash_is_not_tried_again(tmp_path: Path) -> None:
    subject = world(tmp_path)
    killer = Executioner(1, MeasurementError)
    with pytest.raises(ModelError):
        subject.run(engines=subject.engines(fail=killer))
    assert killer.asked == 1


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        # what a runtime says may have any word in it
        (MeasurementError("cannot open disturbed.onnx"), ModelError),
        (DisturbedError("no round counts"), DisturbedError),
    ],
)
def test_a_machine_that_is_never_quiet_is_told_from_a_model_that_does_not_run(
    tmp_path: Path, failure: MeasurementError, told: type[Exception]
) -> None:
    subject = world(tmp_path)

    def fail(files: Mapping[str, LoweredModel]) -> None:
        raise failure

    with pytest.raises(told) as caught:
        subject.run(engines=subject.engines(fail=fail))
    assert type(caught.value) is told
