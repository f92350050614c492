"""What the kernels are held against, and the verdicts over all shapes of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.kernel_shapes import ODD, LayerShape, LinearShape
from benchmarks.rows import Row
from benchmarks.speed_ratios import Bar, Speedup

ORT_FP32, ORT_INT8 = "ONNX Runtime fp32", "ONNX Runtime INT8"
DEEPSPARSE, OPENVINO_INT8, OPENVINO_FP32 = "DeepSparse", "OpenVINO INT8", "OpenVINO fp32"
ONE_THREAD = "one thread"
UNSTRUCTURED = tuple(f"unstructured@{zeros}:fp32" for zeros in ("0.80", "0.90", "0.95"))
BLOCKS = tuple(f"block1x4@{zeros}:int8" for zeros in ("0.50", "0.75", "0.90"))
NM_LEVELS = ("2:4:int8", "1:4:int8")
FP32_90, INT8_75 = UNSTRUCTURED[1], BLOCKS[1]
OPPONENTS = {
    **dict.fromkeys(UNSTRUCTURED, ORT_FP32), **dict.fromkeys((*BLOCKS, *NM_LEVELS), ORT_INT8),
}  # fmt: skip
"""Level -> the dense file of its precision in ONNX Runtime."""
NOT_RUN = "nothing of the kind was run"

# below this the second thread costs more than it brings
_LARGE_OPERATIONS = 2 * 128 * 1024 * 1024
_ANY_ROWS = (1, 1 << 30)


@dataclass(frozen=True)
class Case:
    """One shape at one number of rows."""

    group: str
    shape: LayerShape
    rows: int

    @property
    def kind(self) -> Literal["linear", "conv"]:
        """What is computed."""
        return "linear" if isinstance(self.shape, LinearShape) else "conv"

    @property
    def what(self) -> str:
        """For people."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        inputs = rows if self.kind == "linear" else f"batch {self.rows}"
        return f"{self.group} {self.shape.name}, {inputs}"

    @property
    def is_large_product(self) -> bool:
        """Whether two threads ought to help."""
        return self.kind == "linear" and self.shape.operations(self.rows) >= _LARGE_OPERATIONS


@dataclass(frozen=True)
class Finding:
    """How much faster one level of one case is than one opponent."""

    case: Case
    level: str
    opponent: str
    speedup: Speedup
    threads: int = 1
    """Ours; the opponent has as many, but for ONE_THREAD."""


@dataclass(frozen=True)
class KernelBar:
    """Which findings one geometric mean is over."""

    bar: Bar
    kind: Literal["linear", "conv"]
    level: str
    rows: tuple[int, int] = _ANY_ROWS
    group: str = ""
    """The only one; any but the odd sizes where it is empty."""
    threads: int = 1

    def concerns(self, finding: Finding) -> bool:
        """Whether a finding belongs to it."""
        case = finding.case
        return (
            case.kind == self.kind
            and finding.level == self.level
            and finding.opponent == self.bar.opponent
            and self.rows[0] <= case.rows <= self.rows[1]
            and (case.group == self.group if self.group else case.group != ODD)
            and finding.threads == self.threads
        )


def kernel_bars() -> tuple[KernelBar, ...]:
    """Every bar, and the means that are only reported."""
    return (*_own_bars(), *_group_reports(), *_other_engines(), *_thread_reports())


def _own_bars() -> Iterator[KernelBar]:
    many, few, one = (128, 1 << 30), (16, 16), (1, 1)
    for level, least in zip(UNSTRUCTURED, (2.3, 4.0, 6.5), strict=True):
        yield _linear(level, "from 128 rows", many, ORT_FP32, least)
    for level, least in zip(UNSTRUCTURED, (1.3, 2.5, 4.5), strict=True):
        yield _linear(level, "16 rows", few, ORT_FP32, least)
    yield _linear(FP32_90, "1 row", one, ORT_FP32, 3.0)
    for level, least in zip((*BLOCKS, *NM_LEVELS), (1.15, 2.0, 4.0, 1.15, 2.0), strict=True):
        yield _linear(level, "from 16 rows", (16, 1 << 30), ORT_INT8, least)
    for level in (FP32_90, INT8_75):
        bar = Bar(f"linear, two threads, large, {level}", ONE_THREAD, 1.6)
        yield KernelBar(bar, "linear", level, threads=2)


def _group_reports() -> Iterator[KernelBar]:
    for level, opponent in OPPONENTS.items():
        for group in ("resnet50", "resnet56"):
            bar = Bar(f"{group} convolutions, {level}", opponent)
            yield KernelBar(bar, "conv", level, group=group)
        yield KernelBar(Bar(f"odd sizes, {level}", opponent), "linear", level, group=ODD)


def _thread_reports() -> Iterator[KernelBar]:
    for level, opponents in (
        (FP32_90, (ORT_FP32, DEEPSPARSE, OPENVINO_FP32)), (INT8_75, (ORT_INT8, OPENVINO_INT8)),
    ):  # fmt: skip
        for opponent in opponents:
            bar = Bar(f"linear, two threads each, large, {level}", opponent)
            yield KernelBar(bar, "linear", level, threads=2)


def _other_engines() -> Iterator[KernelBar]:
    for level in UNSTRUCTURED:
        yield _linear(level, "from 16 rows", (16, 1 << 30), DEEPSPARSE, 1.15)
    yield KernelBar(Bar(f"convolutions, {FP32_90}", DEEPSPARSE, 1.15), "conv", FP32_90)
    yield _linear(INT8_75, "from 16 rows", (16, 1 << 30), OPENVINO_INT8, 1.4)
    yield KernelBar(Bar(f"convolutions, {INT8_75}", OPENVINO_INT8, 1.4), "conv", INT8_75)
    yield _linear(FP32_90, "from 16 rows", (16, 1 << 30), OPENVINO_FP32, None)


def _linear(
    level: str, said: str, rows: tuple[int, int], opponent: str, least: float | None
) -> KernelBar:
    return KernelBar(Bar(f"linear, {said}, {level}", opponent, least), "linear", level, rows)


def verdict_rows(
    findings: Sequence[Finding], environment: str, engines: Sequence[str]
) -> Iterator[Row]:
    """A row for every bar, and for every report that there is something to report of.

    Args:
        findings: of all shapes.
        environment: that they were measured in.
        engines: the other engines that took part.
    """
    for one in kernel_bars():
        speedups = [f.speedup for f in findings if one.concerns(f)]
        if one.bar.least is None and not speedups:
            continue  # nothing is asked, nothing is missed
        yield one.bar.row(speedups, environment, absent=why_absent(one.bar.opponent, engines))


def why_absent(opponent: str, engines: Sequence[str]) -> str:
    """Why nothing was measured against an opponent."""
    engine = opponent.split()[0].lower()
    if engine in ("deepsparse", "openvino") and engine not in engines:
        return f"no interpreter was given for it (--opponent-python {engine}=PATH)"
    return NOT_RUN
