"""`kernels`: one-layer files with sparse kernels against ONNX Runtime's own, and other engines.

Everything is timed as it is shipped: a file, an inference through the session, row-major floats in
and out, opponents interleaved in one run between canaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from autosparse.errors import MeasurementError
from autosparse.evaluation import (
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
    read_environment,
)
from autosparse.evaluation.backend import Array
from autosparse.levels import Level
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.stopwatch import Stopwatch
from backends.kernels.library import kernel_library
from backends.kernels.support import why_no_kernels
from benchmarks.benchmark import Request
from benchmarks.engine_duels import Challenge, EngineDuels, OnThreads
from benchmarks.engine_process import last_cores
from benchmarks.guarded import guarded_rows
from benchmarks.kernel_bars import (
    BLOCKS,
    DEEPSPARSE,
    FP32_90,
    INT8_75,
    NM_LEVELS,
    ONE_THREAD,
    OPENVINO_FP32,
    OPENVINO_INT8,
    OPPONENTS,
    ORT_FP32,
    ORT_INT8,
    UNSTRUCTURED,
    Case,
    Finding,
    verdict_rows,
)
from benchmarks.kernel_plots import write_plots
from benchmarks.kernel_roofs import Roofs
from benchmarks.kernel_shapes import FULL, ODD, QUICK, KernelScale, LayerShape, LinearShape
from benchmarks.random_networks import conv_model, linear_model
from benchmarks.rows import Row, failed_row, skipped_row
from benchmarks.sparse_files import Workload
from benchmarks.speed_ratios import Speedup
from workers.isolated_lane import IsolatedLane

_CALIBRATION_ROWS = {"linear": 128, "conv": 2}
# short blocks: a kernel takes microseconds, and a quiet moment is short
_BLOCK_SECONDS, _WARMUP_RUNS = 0.01, 2
_FP32, _INT8 = "dense:fp32", "dense:int8"
_DENSE = {ORT_FP32: _FP32, ORT_INT8: _INT8}
_ON_TWO_THREADS = (FP32_90, INT8_75)
_LATE = "the time of this run is over"


class KernelsBenchmark:
    """Every shape with every kind of zeros."""

    summary = "sparse kernels, layer by layer, against ONNX Runtime in fp32 and INT8"

    def rows(self, request: Request) -> Iterator[Row]:
        """Measure shape after shape; one that fails is a row, and the next one runs."""
        with IsolatedLane() as lane, EngineDuels(request.opponents) as duels:
            run = KernelRun(request, QUICK if request.quick else FULL, lane, duels)
            request.say("building the kernels, where this version of them is not built yet")
            yield from run.rows()


@dataclass(frozen=True)
class ShapeFiles:
    """One layer in every form that is compared."""

    lowered: Mapping[str, LoweredModel]
    """Level -> the file; `dense:fp32` is the file as it came."""
    challenges: tuple[Challenge, ...]
    """Files for other engines."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Level -> why the layer cannot have it."""

    @property
    def without_kernel(self) -> tuple[str, ...]:
        """Sparse levels whose file has no kernel of ours: their speed would be a dense one's."""
        return tuple(
            level
            for level, file in self.lowered.items()
            if level not in (_FP32, _INT8) and not file.library
        )

    def without(self, levels: Sequence[str]) -> ShapeFiles:
        """The others."""
        return ShapeFiles(
            {level: file for level, file in self.lowered.items() if level not in levels},
            tuple(one for one in self.challenges if one.level not in levels),
            self.left_out,
        )


@dataclass
class KernelRun:
    """One run, and what it has found so far."""

    request: Request
    scale: KernelScale
    lane: IsolatedLane
    duels: EngineDuels
    findings: list[Finding] = field(default_factory=list)
    roofs: Roofs = field(default_factory=Roofs)
    environment: str = field(default_factory=lambda: read_environment().id)
    began: float = 0.0
    """When the kernels were built, in seconds of the run: its time limit counts from there."""

    @property
    def settings(self) -> TimingSettings:
        """Of every measurement."""
        return TimingSettings(
            rounds=self.scale.rounds, block_seconds=_BLOCK_SECONDS, warmup_runs=_WARMUP_RUNS,
            max_seconds=self.scale.seconds_per_shape,
        )  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """All groups, then what they come to."""
        reason = why_no_kernels()
        if reason:
            yield failed_row("sparse kernels", reason, self.environment)
            return
        kernel_library()
        self.began = self.request.elapsed()
        self.roofs.look()
        for group in self.request.models or self.scale.groups:
            if group not in self.scale.groups:
                known = ", ".join(self.scale.groups)
                yield skipped_row(group, f"no such group; known: {known}", self.environment)
            for shape in self.scale.groups.get(group, ()):
                yield from self.guarded(
                    f"{group} {shape.name}", partial(self._shape_rows, group, shape)
                )
        yield from verdict_rows(self.findings, self.environment, tuple(self.request.opponents))
        self.roofs.look()
        yield from self.roofs.rows(self.findings, self.environment)
        write_plots(self.findings, self.request.directory)

    def guarded(self, what: str, make: Callable[[], Iterable[Row]]) -> Iterator[Row]:
        """The rows of `make`, and a row with the reason where it ends early."""
        return guarded_rows(self.request, self.environment, what, make)

    def _shape_rows(self, group: str, shape: LayerShape) -> Iterator[Row]:
        cases = [Case(group, shape, rows) for rows in self.scale.rows_of(group, shape)]
        if self._is_late():
            yield skipped_row(f"{group} {shape.name}", _LATE, self.environment)
            return
        directory = self.request.directory / group / _as_folder(shape.name)
        self.request.say(f"{group} {shape.name}: files")
        files = write_files(shape, cases[0].kind, directory, tuple(self.request.opponents))
        for level, reason in files.left_out.items():
            # no kernel is made for every odd size; networks' layers are all taken
            row = skipped_row if group == ODD else failed_row
            yield row(f"{group} {shape.name}, {level}", reason, self.environment)
        for level in files.without_kernel:
            what = f"{group} {shape.name}, {level}"
            yield failed_row(what, "no sparse kernel took the layer", self.environment)
        files = files.without(files.without_kernel)
        for case in cases:
            if self._is_late():
                yield skipped_row(case.what, _LATE, self.environment)
                continue
            inputs = directory / f"inputs_{case.rows}.npz"
            np.savez(inputs, x=random_inputs(shape, case.rows)["x"])
            yield from self.guarded(case.what, partial(self._case_rows, case, files, inputs))

    def _case_rows(self, case: Case, files: ShapeFiles, inputs: Path) -> Iterator[Row]:
        target = Target(batch_size=case.rows, input_shapes={"x": case.shape.input_shape(case.rows)})
        stopwatch = Stopwatch(self.lane, Silent(), target, inputs)
        measured = stopwatch.measure(files.lowered, self.settings)
        for level in files.lowered:
            if level != _FP32:
                yield self._own_row(case, level, measured)
        yield from self._duel_rows(case, files, inputs)
        if case.is_large_product:
            yield from self._thread_rows(case, files, inputs)

    def _own_row(self, case: Case, level: str, measured: Mapping[str, Measurement]) -> Row:
        opponent = OPPONENTS.get(level, ORT_FP32)
        speedup = Speedup.of(measured[_DENSE[opponent]], measured[level])
        return self._found(case, level, opponent, speedup)

    def _duel_rows(
        self, case: Case, files: ShapeFiles, inputs: Path, threads: int = 1
    ) -> Iterator[Row]:
        """Against other engines, but for one row: there, an inference is mostly its call."""
        challenges = [c for c in files.challenges if threads == 1 or c.level in _ON_TWO_THREADS]
        if not challenges or (case.kind == "linear" and case.rows == 1):
            return
        try:
            answers = self.duels.against(
                files.lowered, challenges, inputs, self.settings, threads=threads
            )
        except MeasurementError as error:  # our own files ran a moment ago
            yield skipped_row(f"{case.what}: other engines", error.message, self.environment)
            return
        for answer in answers:
            one = answer.challenge
            if answer.speedup is None:
                what = f"{case.what}, {one.level} against {one.opponent}"
                yield skipped_row(what, answer.reason, self.environment)
            else:
                version = f"{one.engine} {answer.version}"
                yield self._found(case, one.level, one.opponent, answer.speedup, version, threads)

    def _thread_rows(self, case: Case, files: ShapeFiles, inputs: Path) -> Iterator[Row]:
        if len(last_cores(2)) < 2:
            yield skipped_row(f"{case.what}: two threads", "there is one core", self.environment)
            return
        told: list[tuple[str, str]] = []
        pairs: list[tuple[OnThreads, OnThreads]] = []
        for level in (one for one in _ON_TWO_THREADS if one in files.lowered):
            ours = OnThreads(level, 2)
            told += [(level, ONE_THREAD), (level, OPPONENTS[level])]
            pairs += [(OnThreads(level, 1), ours), (OnThreads(_DENSE[OPPONENTS[level]], 2), ours)]
        found = self.duels.on_threads(files.lowered, pairs, inputs, self.settings) if pairs else []
        for (level, opponent), speedup in zip(told, found, strict=True):
            yield self._found(case, level, opponent, speedup, threads=2)
        yield from self._duel_rows(case, files, inputs, threads=2)

    def _found(
        self,
        case: Case,
        level: str,
        opponent: str,
        speedup: Speedup,
        note: str = "",
        threads: int = 1,
    ) -> Row:
        finding = Finding(case, level, opponent, speedup, threads)
        self.findings.append(finding)
        on = "" if threads == 1 else ", two threads"
        if threads > 1 and opponent != ONE_THREAD:
            on += " each"
        notes = [part for part in (note, self.roofs.words(finding)) if part]
        what = f"{case.what}, {level}{on}"
        return speedup.row(what, opponent, self.environment, "; ".join(notes))

    def _is_late(self) -> bool:
        return self.request.elapsed() - self.began > self.scale.deadline_seconds


def write_files(
    shape: LayerShape, kind: str, directory: Path, engines: tuple[str, ...]
) -> ShapeFiles:
    """Write one layer in every form, each in a directory of its own.

    Args:
        shape: the layer.
        kind: `linear` or `conv`.
        directory: where to write.
        engines: other engines that take part.
    """
    make = (
        partial(linear_model, shape)
        if isinstance(shape, LinearShape)
        else partial(conv_model, shape)
    )
    path = make(directory / "dense" / "model.onnx")
    work = Workload.load(path, random_inputs(shape, _CALIBRATION_ROWS[kind]))
    (layer,) = work.graph.layers
    lowered, left_out = {_FP32: work.original}, dict[str, str]()
    for text in (_INT8, *UNSTRUCTURED, *BLOCKS, *NM_LEVELS):
        level = Level.parse(text)
        reason = work.why_not(layer, level) if level.sparsity else ""
        if reason:
            left_out[text] = reason
        else:
            lowered[text] = work.lower({layer.name: level}, directory / _as_folder(text))
    challenges = _challenges(work, lowered, directory, engines)
    return ShapeFiles(lowered, tuple(challenges), left_out)


def _challenges(
    work: Workload, lowered: Mapping[str, LoweredModel], directory: Path, engines: tuple[str, ...]
) -> Iterator[Challenge]:
    (layer,) = work.graph.layers
    if "deepsparse" in engines:
        for text in UNSTRUCTURED:
            level = Level.parse(text)
            path = directory / f"stock_{_as_folder(text)}" / "model.onnx"
            masked = work.write_fp32({layer.name: level}, path)
            yield Challenge("deepsparse", DEEPSPARSE, text, masked, level.sparsity)
    if "openvino" in engines:
        yield Challenge("openvino", OPENVINO_FP32, FP32_90, work.original)
    if "openvino" in engines and INT8_75 in lowered:
        level = Level.parse(INT8_75)
        zeros = work.lower_without_kernels({layer.name: level}, directory / "stock_int8")
        yield Challenge("openvino", OPENVINO_INT8, INT8_75, lowered[_INT8])
        yield Challenge(
            "openvino", f"{OPENVINO_INT8} told of its zeros", INT8_75, zeros, level.sparsity
        )


def random_inputs(shape: LayerShape, rows: int) -> dict[str, Array]:
    """Of one inference."""
    drawn = np.random.default_rng(1).standard_normal(shape.input_shape(rows), dtype=np.float32)
    return {"x": drawn}


def _as_folder(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".@" else "_" for c in text)
