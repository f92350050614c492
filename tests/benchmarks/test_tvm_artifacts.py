"""Ratios, bars and notes of the `tvm` benchmark, from measurements and files that are planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from autosparse.evaluation import LoweredModel, Measurement
from backends.kernels.library import cache_directory
from backends.tvm_artifact.build import ARTIFACTS
from benchmarks import tvm_artifacts
from benchmarks.benchmark import Request
from benchmarks.engine_duels import Answer, Challenge, EngineDuels
from benchmarks.kernel_bars import DEEPSPARSE, FP32_90, INT8_75
from benchmarks.sparse_files import Workload
from benchmarks.tvm_artifacts import _QUICK, _most_bytes, _Run
from benchmarks.whole_model_sources import OpenedModel
from tests.benchmarks.test_speed_ratios import measured, speedup
from tests.models import images
from workers.isolated_lane import IsolatedLane

THEIRS = {
    "as it came": 1.0, "quantize_static": 0.5, "onnxruntime dense:int8": 0.6,
    f"onnxruntime {FP32_90}": 0.4, f"onnxruntime {INT8_75}": 0.3,
}  # fmt: skip
JUST_WITHIN = {
    "tvm dense:fp32": 1.14, "tvm dense:int8": 0.69, f"tvm {FP32_90}": 0.399,
    f"tvm {INT8_75}": 0.299,
}  # fmt: skip
JUST_OVER = {
    "tvm dense:fp32": 1.16, "tvm dense:int8": 0.71, f"tvm {FP32_90}": 0.401,
    f"tvm {INT8_75}": 0.301,
}  # fmt: skip
SPARSE_PARAMETERS = 576 + 576 + 1152 + 2304 + 128 + 160
"""Of every layer of the residual network but the first."""


class PlantedDuels(EngineDuels):
    """An engine that is so many times slower than ours."""

    def __init__(self, ratio: float | None) -> None:
        super().__init__({})
        self._ratio = ratio

    def against(
        self, ours: Mapping[str, LoweredModel], challenges: Sequence[Challenge], *_: Any
    ) -> list[Answer]:
        (challenge,) = challenges
        assert challenge.level in ours
        if self._ratio is None:
            return [Answer(challenge, reason="it reads no such file")]
        return [Answer(challenge, "1.8.0", speedup(self._ratio))]


def run_in(directory: Path, ratio: float | None = None, **opponents: Path) -> _Run:
    asked = Request(quick=True, assets=directory, directory=directory, opponents=opponents)
    lane = cast("IsolatedLane", None)
    return _Run(asked, _QUICK, lane, PlantedDuels(ratio), environment="here")


@pytest.mark.parametrize(("ours", "holds"), [(JUST_WITHIN, True), (JUST_OVER, False)])
def test_a_bar_is_a_ratio_of_latencies(
    ours: dict[str, float], holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {**THEIRS, **ours}

    def measure(files: Mapping[str, LoweredModel], _: object) -> dict[str, Measurement]:
        return {label: measured(*[seconds[label]] * 3) for label in files}

    monkeypatch.setattr(tvm_artifacts, "Stopwatch", lambda *_: SimpleNamespace(measure=measure))
    files = dict.fromkeys(seconds, LoweredModel(tmp_path, "file"))
    fp32, int8, sparse, blocks = run_in(tmp_path)._timed_rows("net", files, tmp_path)
    assert [row.holds for row in (fp32, int8, sparse, blocks)] == [holds] * 4
    assert [row.bar.split()[1] for row in (fp32, int8, sparse, blocks)] == ["1.15", "1.4", "1", "1"]
    # of two INT8 files, the faster one is the opponent
    assert [row.opponent_figure for row in (fp32, int8, sparse, blocks)] == pytest.approx(
        [1 / 1.0, 1 / 0.5, 1 / 0.4, 1 / 0.3]
    )


def opened_in(directory: Path) -> OpenedModel:
    np.savez(directory / "inputs.npz", image=images(1))
    unused = cast("Any", None)
    return OpenedModel(unused, unused, directory / "inputs.npz", directory)


@pytest.mark.parametrize(
    ("model", "ratio", "bar", "holds"),
    [
        ("resnet20", 1.01, "<= 1 times its latency", True),
        ("resnet20", 0.99, "<= 1 times its latency", False),
        ("minilm", 0.5, "", None),
    ],
)
def test_the_smallest_model_is_no_slower_than_deepsparse(
    model: str, ratio: float, bar: str, holds: bool | None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = LoweredModel(tmp_path, "file")
    challenge = Challenge("deepsparse", DEEPSPARSE, FP32_90, file)
    monkeypatch.setattr(tvm_artifacts, "deepsparse_challenge", lambda *_: challenge)
    run = run_in(tmp_path, ratio, deepsparse=Path("python"))
    (row,) = run._duel_rows(model, opened_in(tmp_path), file)
    assert (row.opponent, row.ratio, row.bar, row.holds) == (DEEPSPARSE, ratio, bar, holds)
    assert row.note.endswith("deepsparse 1.8.0")


def test_what_deepsparse_does_not_answer_is_skipped_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = LoweredModel(tmp_path, "file")
    (row,) = run_in(tmp_path)._duel_rows("resnet20", opened_in(tmp_path), file)
    assert (row.holds, row.figure) == (None, None)
    assert "no interpreter was given for it (--opponent-python deepsparse=PATH)" in row.note
    challenge = Challenge("deepsparse", DEEPSPARSE, FP32_90, file)
    monkeypatch.setattr(tvm_artifacts, "deepsparse_challenge", lambda *_: challenge)
    run = run_in(tmp_path, None, deepsparse=Path("python"))
    (row,) = run._duel_rows("resnet20", opened_in(tmp_path), file)
    assert (row.holds, row.note) == (None, "skipped: it reads no such file")


@pytest.fixture
def work(residual_model: Path) -> Workload:
    return Workload.load(residual_model, {"image": images(2)})


def test_a_file_may_be_as_large_as_its_zeros_leave_it(work: Workload) -> None:
    # a tenth of four bytes for each weight, and at most six tenths of that for the gaps
    assert _most_bytes(40_000, work) == pytest.approx(40_000 - 0.84 * 4 * SPARSE_PARAMETERS)


@pytest.mark.parametrize(("over", "holds"), [(-1, True), (1, False)])
def test_the_size_of_parameters_follows_the_zeros(
    over: int, holds: bool, work: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvm_artifacts, "_peak_bytes", lambda *_: 30 << 20)
    sizes = {"tvm dense:fp32": 40_000, f"tvm {FP32_90}": int(_most_bytes(40_000, work)) + over}
    files = {}
    for number, (label, size) in enumerate(sizes.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "model.params").write_bytes(bytes(size))
        files[label] = LoweredModel(directory, "model.params")
    dense, sparse, memory = run_in(tmp_path)._file_rows("net", files, work, tmp_path)
    assert (dense.bar, dense.holds) == ("", None)
    assert sparse.figure == pytest.approx(sizes[f"tvm {FP32_90}"] / 1e6)
    assert sparse.holds is holds
    assert sparse.bar.endswith("MB, by its zeros")
    assert memory.holds is True  # less than 32 MB, however small the model


def test_compiling_tells_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "of the machine" / "autosparse" / "kernels"
    (cached / "objects").mkdir(parents=True)
    (cached / ARTIFACTS).mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of the machine"))
    monkeypatch.setattr(tvm_artifacts, "_levels", lambda *_: {})
    seen: list[str] = []

    def lower(*_: object) -> None:
        seen.extend(path.name for path in cache_directory().iterdir())

    work = cast("Workload", SimpleNamespace(lower=lower))
    row = run_in(tmp_path)._compile_row("net", work, tmp_path)
    assert seen == ["objects"]  # the kernels, and no graph
    assert row.holds is True
    assert "kernels are compiled once" in row.note
