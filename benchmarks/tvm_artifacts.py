"""`tvm`: artifacts for TVM against ONNX Runtime, with its own kernels and with ours.

All files of a model are timed in one process, in turns. A figure that is a bar is a ratio of
medians; what is asked of it is said with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

from autosparse.evaluation import (
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
    read_environment,
)
from autosparse.levels import BASELINE, Level
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.stopwatch import Stopwatch
from backends.kernels.library import cache_directory
from backends.tvm_artifact.build import ARTIFACTS
from backends.tvm_backend import TvmBackend
from benchmarks.benchmark import Request
from benchmarks.guarded import guarded_rows
from benchmarks.kernel_bars import FP32_90, INT8_75
from benchmarks.rows import Row
from benchmarks.sparse_files import INT8, Workload
from benchmarks.speed_ratios import Speedup, fastest_of
from benchmarks.toolkit_int8 import quantize_everywhere
from benchmarks.whole_model_sources import open_model
from workers.isolated_lane import IsolatedLane

_GIVEN, _DENSE, _TOOLKIT = "as it came", "dense:fp32", "quantize_static"
_OWN_INT8 = str(INT8)
_SPARSE = (FP32_90, INT8_75)
# latency of ours may be so many times the opponent's
_MOST_FP32, _MOST_INT8, _MOST_OWN = 1.15, 1.4, 1.0
_COMPILE_SECONDS, _MEMORY_RATIO = 60.0, 2.0
_MEMORY_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from backends.tvm_artifact.runner import ArtifactRunner

def held():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

library, parameters, inputs = map(Path, sys.argv[1:])
given = dict(np.load(inputs))
before = held()
ArtifactRunner(library, parameters, threads=1).run(given)
print(held() - before)
"""


@dataclass(frozen=True)
class _Scale:
    models: tuple[str, ...]
    rounds: int
    seconds_per_model: float


_FULL = _Scale(("resnet20", "resnet56", "mobilenet", "minilm"), 12, 90.0)
_QUICK = _Scale(("resnet20", "mobilenet"), 5, 30.0)


class TvmBenchmark:
    """Every model, dense, in INT8 and with zeros."""

    summary = "artifacts for TVM against ONNX Runtime, and what compiling and opening them takes"

    def rows(self, request: Request) -> Iterator[Row]:
        """Measure model after model; one that fails is a row, and the next one runs."""
        with IsolatedLane() as lane:
            yield from _Run(request, _QUICK if request.quick else _FULL, lane).rows()


@dataclass
class _Run:
    request: Request
    scale: _Scale
    lane: IsolatedLane
    environment: str = field(default_factory=lambda: read_environment().id)

    def rows(self) -> Iterator[Row]:
        for name in self.request.models or self.scale.models:
            yield from self._guarded(name, partial(self._model_rows, name))

    def _guarded(self, what: str, make: Callable[[], Iterable[Row]]) -> Iterator[Row]:
        return guarded_rows(self.request, self.environment, what, make)

    def _model_rows(self, name: str) -> Iterator[Row]:
        opened = open_model(self.request, name)
        work, directory, inputs = opened.work, opened.directory, opened.inputs
        files = {_GIVEN: work.original}
        yield from self._guarded(
            f"{name}: {_TOOLKIT}",
            partial(_add, files, _TOOLKIT, lambda: quantize_everywhere(
                opened.given.onnx, opened.given.calibration, opened.given.toolkit_operators,
                directory / "toolkit",
            )),
        )  # fmt: skip
        for text in (_DENSE, _OWN_INT8, *_SPARSE):
            self.request.say(f"{name}: {text}")
            levels = _levels(work, text)
            if text != _DENSE:
                files[_of("onnxruntime", text)] = work.lower(levels, directory / f"ort_{text}")
            files[_of("tvm", text)] = work.lower(levels, directory / f"tvm_{text}", TvmBackend())
            work.forget_weights()
        yield self._compile_row(name, work, directory)
        yield from self._file_rows(name, files, work, inputs)
        yield from self._timed_rows(name, files, inputs)

    def _compile_row(self, name: str, work: Workload, directory: Path) -> Row:
        """The graph alone: kernels are compiled once for each version of them."""
        with _empty_of_graphs(directory / "cache"):
            began = time.monotonic()
            work.lower(_levels(work, _DENSE), directory / "again", TvmBackend())
            taken = time.monotonic() - began
        return Row(
            what=f"{name}: compiling", figure=taken, unit="seconds", environment=self.environment,
            bar=f"< {_COMPILE_SECONDS:g}", holds=taken < _COMPILE_SECONDS,
        )  # fmt: skip

    def _file_rows(
        self, name: str, files: Mapping[str, LoweredModel], work: Workload, inputs: Path
    ) -> Iterator[Row]:
        came = work.original.path.stat().st_size
        for text in (_DENSE, FP32_90):
            file = files[_of("tvm", text)]
            size = file.path.stat().st_size
            note = f"and a library of {_size(file.library_path)} MB"
            yield Row(
                what=f"{name}, {text}: file of parameters", figure=size / 1e6, unit="MB",
                opponent="the model as it came", opponent_figure=came / 1e6, ratio=size / came,
                environment=self.environment, note=note,
            )  # fmt: skip
        file = files[_of("tvm", _DENSE)]
        peak = _peak_bytes(file, inputs)
        most = max(came, 16 << 20)  # what the runtime itself takes is no share of a small model
        yield Row(
            what=f"{name}: memory to open and run it", figure=peak / 1e6, unit="MB",
            opponent="the model as it came", opponent_figure=came / 1e6, ratio=peak / came,
            bar=f"< {_MEMORY_RATIO:g} models, or 32 MB", holds=peak < _MEMORY_RATIO * most,
            environment=self.environment,
        )  # fmt: skip

    def _timed_rows(
        self, name: str, files: Mapping[str, LoweredModel], inputs: Path
    ) -> Iterator[Row]:
        self.request.say(f"{name}: timing {len(files)} files")
        settings = TimingSettings(
            rounds=self.scale.rounds, block_seconds=0.02, max_seconds=self.scale.seconds_per_model
        )
        stopwatch = Stopwatch(self.lane, Silent(), Target(backend="tvm"), inputs)
        measured = stopwatch.measure(files, settings)
        integer = fastest_of(
            measured, [n for n in (_TOOLKIT, _of("onnxruntime", _OWN_INT8)) if n in measured]
        )
        for text, opponent, label, most in (
            (_DENSE, "ONNX Runtime fp32", _GIVEN, _MOST_FP32),
            (_OWN_INT8, "the faster INT8 in ONNX Runtime", integer, _MOST_INT8),
            *((t, "our kernels in ONNX Runtime", _of("onnxruntime", t), _MOST_OWN)
              for t in _SPARSE),
        ):  # fmt: skip
            yield self._against(f"{name}, {text}", opponent, measured, label, text, most)

    def _against(
        self, what: str, opponent: str, measured: Mapping[str, Measurement], label: str,
        text: str, most: float,
    ) -> Row:  # fmt: skip
        """Held against the figure itself, as every bar is; its interval is in the note."""
        speedup = Speedup.of(measured[label], measured[_of("tvm", text)])
        row = speedup.row(what, opponent, self.environment)
        said = f"<= {most:g} times its latency"
        return row.model_copy(update={"bar": said, "holds": speedup.ratio >= 1 / most})


@contextmanager
def _empty_of_graphs(root: Path) -> Iterator[None]:
    """A cache of its own with the kernels that are compiled already, but no model's graph."""
    cache = root / "autosparse" / "kernels"
    cache.mkdir(parents=True)
    for entry in cache_directory().iterdir():
        if entry.name != ARTIFACTS:
            (cache / entry.name).symlink_to(entry)
    with patch.dict(os.environ, {"XDG_CACHE_HOME": str(root)}):
        yield


def _of(backend: str, level: str) -> str:
    return f"{backend} {level}"


def _levels(work: Workload, text: str) -> Mapping[str, Level]:
    """A level for every layer that both backends run at it."""
    if text == _DENSE:
        return {layer.name: BASELINE for layer in work.graph.layers}
    level = Level.parse(text)
    dense = INT8 if text in (_OWN_INT8, INT8_75) else BASELINE
    wanted, backend = work.levels_at(level, dense), TvmBackend()
    if text == _OWN_INT8:
        wanted = {layer.name: INT8 for layer in work.graph.layers}
    return {
        layer.name: wanted[layer.name]
        if backend.capability(layer, wanted[layer.name], Target()).runs
        else BASELINE
        for layer in work.graph.layers
    }


def _add(
    files: dict[str, LoweredModel], label: str, make: Callable[[], LoweredModel]
) -> Iterator[Row]:
    """No row of its own: the file joins the others, or the reason is told."""
    files[label] = make()
    yield from ()


def _size(path: Path | None) -> str:
    return "0" if path is None else f"{path.stat().st_size / 1e6:.1f}"


def _peak_bytes(file: LoweredModel, inputs: Path) -> int:
    """Memory that opening and running an artifact adds to a process."""
    command = [sys.executable, "-c", _MEMORY_SCRIPT, str(file.library_path), str(file.path)]
    done = subprocess.run([*command, str(inputs)], capture_output=True, text=True, check=True)
    return int(done.stdout)
