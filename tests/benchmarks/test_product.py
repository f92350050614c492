"""The benchmark of the whole product: what it gives to a job, and how it judges what comes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from autosparse.datasets import Dataset, load_dataset
from autosparse.evaluation import LoweredModel, Measurement, Verdict
from autosparse.evaluation.measurement import Block
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.model_graph import ModelGraph
from autosparse.tensor_spec import TensorSpec
from benchmarks import product
from benchmarks.benchmark import Request
from benchmarks.lab_data import LabData
from benchmarks.memory import SampledRun
from benchmarks.parts import Parts, Unfinished
from benchmarks.product import BARS, FULL, QUICK, Contest, Given
from benchmarks.rows import Row

ROWS = {"ids": np.arange(24).reshape(12, 2)}


def pairs() -> LabData:
    return LabData(
        onnx=Path("model.onnx"), graph=cast(ModelGraph, None), train=Dataset(ROWS),
        calibration={"ids": ROWS["ids"][:3]},
        judging=Dataset(ROWS, np.arange(12.0), {"ids": ROWS["ids"] + 1}),
        metric=BUILT_IN["spearman"], operators=("MatMul",), batch=4, step=2, logits=False,
    )  # fmt: skip


def test_a_job_is_given_every_second_row_and_may_read_its_files(tmp_path: Path) -> None:
    given = Given.of(pairs(), tmp_path)
    specs = [TensorSpec("ids", np.dtype(np.int64), ("n", 2))]
    validation = load_dataset(given.validation, specs, "validation")
    assert validation.labels is not None
    assert validation.labels.tolist() == [0, 2, 4, 6, 8, 10]
    assert given.held_out.labels is not None
    assert given.held_out.labels.tolist() == [1, 3, 5, 7, 9, 11]
    assert validation.pair_inputs is not None
    assert len(load_dataset(given.train, specs, "train")) == 12
    assert given.input_shapes == ("ids=1,2",)
    assert given.operators == ("MatMul",)


def measured(label: str, seconds: float) -> Measurement:
    blocks = tuple(
        Block(samples_seconds=(seconds,) * 3, slowdown=0.0, accepted=True) for _ in "123"
    )
    return Measurement(
        label=label, file_sha256="", target="t", environment="here", warmup_runs=0, blocks=blocks
    )


SECONDS = {"as it came": 2.0, "dense:int8": 1.1, "quantize_static": 1.0, "ours": 0.75}


class Played(Contest):
    """Everything is known but how it is judged."""

    asked: list[float]
    lost = 0.8

    @property
    def int8(self) -> dict[str, LoweredModel]:
        return {name: LoweredModel(Path(), name) for name in ("dense:int8", "quantize_static")}

    @property
    def given(self) -> Given:
        held_out = Dataset(ROWS)
        fields = {"onnx": Path("as it came"), "held_out": held_out, "metric": "top1"}
        return cast(Given, SimpleNamespace(**fields))

    def _timed(self, files: Any) -> dict[str, Measurement]:
        return {label: measured(label, SECONDS[label]) for label in files}

    def _run_job(self, budget: float) -> Any:
        self.asked = [budget]
        return SimpleNamespace(verdict=Verdict.MET)

    def _score(self, model: LoweredModel) -> float:
        return {"as it came": 90.0, "ours": 90.0 - self.lost}.get(model.entry, 89.9)


def played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: float
) -> tuple[Played, list[Row]]:
    monkeypatch.setattr(
        product, "delivered_model", lambda bundle, manifest: LoweredModel(Path(), "ours")
    )
    request = Request(quick=False, assets=tmp_path, directory=tmp_path)
    contest = Played("resnet56", Parts(request, "here"), FULL)
    contest.lost = lost
    return contest, list(contest.rows())


@pytest.mark.parametrize(("lost", "holds"), [(0.8, True), (1.2, False)])
def test_both_speed_and_quality_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lost: float, holds: bool
) -> None:
    contest, (speed, quality) = played(tmp_path, monkeypatch, lost)
    # the faster INT8 file takes half of the dense model's time, and the bar is 1.3
    assert contest.asked == [pytest.approx(0.5 / 1.3, rel=0.05)]
    assert contest.asked[0] < 0.5 / 1.3
    assert speed.opponent == "quantize_static"
    assert speed.ratio == pytest.approx(1 / 0.75)
    assert speed.holds is holds
    assert (quality.figure, quality.opponent_figure) == pytest.approx((lost, 0.1))


def test_a_job_that_was_ended_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ended(words: list[str], cwd: Path, **limits: float) -> SampledRun:
        asked.append(words)
        (tmp_path / "resnet20" / "job" / "job").mkdir(parents=True, exist_ok=True)
        (tmp_path / "resnet20" / "job" / "job" / "config.json").touch()
        return SampledRun(-9, 0, limits["limit_seconds"], "", timed_out=True)

    monkeypatch.setattr(product, "run_sampled", ended)
    request = Request(quick=True, assets=tmp_path, directory=tmp_path)
    contest = Contest("resnet20", Parts(request, "here"), QUICK)
    contest.__dict__["given"] = Given.of(pairs(), tmp_path)
    for _ in range(2):
        with pytest.raises(Unfinished):
            contest._run_job(0.3)
    assert ["--resume" in words for words in asked] == [False, True]
    assert asked[0][asked[0].index("--latency-budget") + 1] == "30.00%"
    assert "--recover" in asked[0]
    assert "--augment" not in asked[0]


def test_every_model_has_a_bar_and_quick_runs_none() -> None:
    assert set(FULL.models) == set(BARS)
    assert (FULL.has_bars, QUICK.has_bars) == (True, False)
