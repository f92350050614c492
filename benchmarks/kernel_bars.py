"""What the kernels are held against, and the verdicts over all shapes of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.kernel_shapes import LayerShape, LinearShape
from benchmarks.rows import Row, skipped_row
from benchmarks.speed_ratios import Bar, Speedup

ORT_FP32, ORT_INT8 = "ONNX Runtime fp32", "ONNX Runtime INT8"
DEEPSPARSE, OPENVINO_INT8, OPENVINO_FP32 = "DeepSparse", "OpenVINO INT8", "OpenVINO fp32"
ONE_THREAD = "one thread"
UNSTRUCTURED = tuple(f"unstructured@{zeros}:fp32" for zeros in ("0.80", "0.90", "0.95"))
BLOCKS = tuple(f"block1x4@{zeros}:int8" for zeros in ("0.50", "0.75", "0.90"))
NM_LEVELS = ("2:4:int8", "1:4:int8")
FP32_90, INT8_75 = UNSTRUCTURED[1], BLOCKS[1]
NOT_RUN = "nothing of the kind was run"

_ROOF_LEVEL, _ROOF_DENSITY, _ROOF_BAR = UNSTRUCTURED[0], 0.2, 55.0
_ROOF_WEIGHTS, _ROOF_ROWS = 1 << 20, 128
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


@dataclass(frozen=True)
class KernelBar:
    """Which findings one geometric mean is over."""

    bar: Bar
    kind: Literal["linear", "conv"]
    level: str
    rows: tuple[int, int] = _ANY_ROWS
    group: str = ""
    """The only one; any where it is empty."""

    def concerns(self, finding: Finding) -> bool:
        """Whether a finding belongs to it."""
        case = finding.case
        return (
            case.kind == self.kind
            and finding.level == self.level
            and finding.opponent == self.bar.opponent
            and self.rows[0] <= case.rows <= self.rows[1]
            and self.group in ("", case.group)
        )


def kernel_bars() -> tuple[KernelBar, ...]:
    """Every bar, and the means that are only reported."""
    return (*_own_bars(), *_conv_reports(), *_other_engines())


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
        yield _linear(level, "two threads, large", _ANY_ROWS, ONE_THREAD, 1.6)


def _conv_reports() -> Iterator[KernelBar]:
    for group in ("resnet50", "resnet56"):
        for levels, opponent in ((UNSTRUCTURED, ORT_FP32), ((*BLOCKS, *NM_LEVELS), ORT_INT8)):
            for level in levels:
                bar = Bar(f"{group} convolutions, {level}", opponent)
                yield KernelBar(bar, "conv", level, group=group)


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


def roofline_row(findings: Sequence[Finding], peak: float, how: str, environment: str) -> Row:
    """The best large shape at 80 % zeros: how much of the multiply-adds that a core can do.

    Args:
        findings: of all shapes.
        peak: operations per second.
        how: how the peak was measured.
        environment: that both were measured in.
    """
    what = "share of the roofline: best large product at 80 % zeros, fp32"
    large = [f for f in findings if f.opponent == ORT_FP32 and _is_under_the_roof(f)]
    if not large:
        return skipped_row(what, NOT_RUN, environment)
    shares = {f.case.what: _rate(f) / peak * 100 for f in large}
    best = max(shares, key=lambda case: shares[case])
    return Row(
        what=what, figure=shares[best], unit="%", bar=f">= {_ROOF_BAR:g} %",
        holds=shares[best] >= _ROOF_BAR, environment=environment,
        note=f"{best}; peak {peak / 1e9:.0f} GFLOP/s, zeros not counted as work; {how}",
    )  # fmt: skip


def _is_under_the_roof(finding: Finding) -> bool:
    case = finding.case
    large = case.shape.weights >= _ROOF_WEIGHTS and case.rows >= _ROOF_ROWS
    return case.kind == "linear" and finding.level == _ROOF_LEVEL and large


def _rate(finding: Finding) -> float:
    """Multiplications and additions with weights that are not zero, per second."""
    operations = finding.case.shape.operations(finding.case.rows) * _ROOF_DENSITY
    return operations / finding.speedup.seconds
