"""Speed-up over the share of zeros, a picture for every group of shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from autosparse.levels import NM, Level
from benchmarks.curves import Point, write_lines
from benchmarks.kernel_bars import OPPONENTS, Finding
from benchmarks.speed_ratios import MeanSpeedup

_EVEN = "as fast"


def write_plots(findings: Sequence[Finding], directory: Path) -> None:
    """Write `kernels-GROUP.svg` for every group, against ONNX Runtime on one thread.

    Args:
        findings: of all shapes.
        directory: that the files are written to.
    """
    for group in dict.fromkeys(f.case.group for f in findings):
        lines = speedup_lines([f for f in findings if f.case.group == group])
        if not lines:
            continue
        zeros = [x for points in lines.values() for x, _ in points]
        even = {_EVEN: [(min(zeros), 1.0), (max(zeros), 1.0)]}
        write_lines(
            directory / f"kernels-{group}.svg", f"{group}: geometric mean over shapes",
            ("zeros", "times as fast as ONNX Runtime's dense file of the precision"),
            {**lines, **even}, kind="log",
        )  # fmt: skip


def speedup_lines(findings: Sequence[Finding]) -> Mapping[str, list[Point]]:
    """A line for every kind of zeros at every number of rows: (share of zeros, speed-up).

    Args:
        findings: of one group; those against other engines and on two threads are left out.
    """
    found: dict[str, dict[float, list[Finding]]] = defaultdict(lambda: defaultdict(list))
    for one in findings:
        if one.threads == 1 and OPPONENTS.get(one.level) == one.opponent:
            found[_name(one)][Level.parse(one.level).sparsity].append(one)
    return {
        name: [
            (zeros, MeanSpeedup.of([one.speedup for one in alike]).ratio)
            for zeros, alike in sorted(points.items())
        ]
        for name, points in found.items()
    }


def _name(finding: Finding) -> str:
    """Kind of zeros, precision and rows: `N:M int8, 128 rows`."""
    level, case = Level.parse(finding.level), finding.case
    kind = "N:M" if isinstance(level.pattern, NM) else level.pattern.kind
    rows = f"batch {case.rows}" if case.kind == "conv" else f"{case.rows} rows"
    return f"{kind} {level.precision.value}, {rows}"
