"""How much of the multiply-adds that a core can do are those of a kernel, zeros not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from autosparse.errors import MeasurementError
from autosparse.levels import Level, Precision
from benchmarks import fma_peak, vnni_peak
from benchmarks.kernel_bars import BLOCKS, NOT_RUN, ORT_FP32, ORT_INT8, UNSTRUCTURED, Finding
from benchmarks.rows import Row, skipped_row

_WEIGHTS, _ROWS = 1 << 20, 128
"""Of a large product, which no call and no conversion weighs on."""


@dataclass(frozen=True)
class Roof:
    """What a core can do in one precision, and the level that is held against it."""

    name: str
    level: str
    opponent: str
    """Of the findings that tell our own time; each level has one in this precision."""
    how: str
    measure: Callable[[], float]
    """Operations per second; raises MeasurementError."""
    bar: float | None = None
    """Percent that the best large product has to reach; None for a report."""

    @property
    def precision(self) -> Precision:
        """Of the kernels below it."""
        return Level.parse(self.level).precision

    @property
    def what(self) -> str:
        """For people."""
        level = Level.parse(self.level)
        return (
            "share of the roofline: best large product at "
            f"{100 * level.sparsity:.0f} % zeros, {level.precision.value}"
        )


ROOFS = (
    Roof("FMA", UNSTRUCTURED[0], ORT_FP32, fma_peak.HOW, fma_peak.peak_operations_per_second, 55.0),
    Roof("VNNI", BLOCKS[1], ORT_INT8, vnni_peak.HOW, vnni_peak.peak_operations_per_second),
)


@dataclass
class Roofs:
    """The roofs of this core, as high as they were seen: a throttled moment lowers them."""

    _peaks: dict[str, float] = field(default_factory=dict)
    """Name -> operations per second."""
    _reasons: dict[str, str] = field(default_factory=dict)
    """Name -> why there is none."""

    def look(self) -> None:
        """Measure all of them, once more or for the first time."""
        for roof in ROOFS:
            try:
                self._peaks[roof.name] = max(roof.measure(), self._peaks.get(roof.name, 0.0))
            except MeasurementError as error:
                self._reasons[roof.name] = error.message

    def words(self, finding: Finding) -> str:
        """The share that one finding reaches; empty where there is no such roof."""
        precision = Level.parse(finding.level).precision
        for roof in ROOFS:
            if roof.precision is precision and roof.name in self._peaks and finding.threads == 1:
                share = 100 * _rate(finding) / self._peaks[roof.name]
                return f"{share:.0f} % of the {roof.name} roof"
        return ""

    def rows(self, findings: Sequence[Finding], environment: str) -> Iterator[Row]:
        """The best large product under each roof."""
        for roof in ROOFS:
            if roof.name in self._peaks:
                yield roof_row(roof, findings, self._peaks[roof.name], environment)
            else:
                reason = self._reasons.get(roof.name, NOT_RUN)
                yield skipped_row(roof.what, reason, environment)


def roof_row(roof: Roof, findings: Sequence[Finding], peak: float, environment: str) -> Row:
    """The best large product at the roof's level.

    Args:
        roof: what it is held against.
        findings: of all shapes.
        peak: operations per second.
        environment: that both were measured in.
    """
    large = [f for f in findings if f.opponent == roof.opponent and _is_under(roof, f)]
    if not large:
        return skipped_row(roof.what, NOT_RUN, environment)
    shares = {f.case.what: _rate(f) / peak * 100 for f in large}
    best = max(shares, key=lambda case: shares[case])
    return Row(
        what=roof.what, figure=shares[best], unit="%",
        bar="" if roof.bar is None else f">= {roof.bar:g} %",
        holds=None if roof.bar is None else shares[best] >= roof.bar, environment=environment,
        note=f"{best}; peak {peak / 1e9:.0f} G operations/s, zeros not counted as work; {roof.how}",
    )  # fmt: skip


def _is_under(roof: Roof, finding: Finding) -> bool:
    case = finding.case
    large = case.shape.weights >= _WEIGHTS and case.rows >= _ROWS
    return case.kind == "linear" and finding.level == roof.level and large and finding.threads == 1


def _rate(finding: Finding) -> float:
    """Multiplications and additions with weights that are not zero, per second."""
    dense = finding.case.shape.operations(finding.case.rows)
    return dense * (1 - Level.parse(finding.level).sparsity) / finding.speedup.seconds
