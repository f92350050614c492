"""Latency samples, prediction and quality as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from autosparse.artifacts.latency_charts import (
    Histogram,
    RoundsDrawing,
    histograms,
    round_ratios,
    rounds_drawings,
    samples_beyond,
)
from autosparse.artifacts.predictor_chart import (
    PredictorDrawing,
    Reading,
    predictor_drawings,
    readings,
)
from autosparse.artifacts.report_data import PredictorReport, ReportData
from autosparse.artifacts.report_words import (
    UNKNOWN,
    QualityWords,
    count,
    milliseconds,
    milliseconds_range,
    share,
    share_range,
)
from autosparse.evaluation import Comparison, Interval, Measurement, Percentile, Quality


@dataclass(frozen=True)
class FileLatency:
    """One file's samples."""

    title: str
    role: str
    drawings: tuple[Histogram, ...]
    p50: str
    p95: str
    interval: str
    samples: str
    discarded: str
    discarded_share: str
    rounds: str
    warmup_runs: int
    sha256: str


@dataclass(frozen=True)
class LatencyView:
    """Both files and what tells them apart."""

    files: tuple[FileLatency, ...]
    rounds: tuple[RoundsDrawing, ...]
    round_tips: tuple[tuple[str, ...], ...]
    facts: tuple[tuple[str, str], ...]
    beyond: int
    """Samples slower than the axes reach."""
    percentile: Percentile


def latency_view(data: ReportData) -> LatencyView:
    """Word and draw the verifying run."""
    comparison, latency = data.comparison, data.manifest.latency
    percentile = data.manifest.contract.percentile
    pairs = round_ratios(comparison, percentile)
    kept = sum(accepted for _, accepted in pairs)
    interval = (latency.ratio_interval.low, latency.ratio_interval.high)
    beyond = samples_beyond(comparison.baseline) + samples_beyond(comparison.candidate)
    return LatencyView(
        files=(
            _file("Baseline", "baseline", comparison.baseline, percentile),
            _file("Delivered", "delivered", comparison.candidate, percentile),
        ),
        rounds=rounds_drawings(comparison, percentile, interval, latency.ratio),
        round_tips=tuple(
            (
                f"round {i}",
                f"{share(ratio)} of the baseline",
                "counts" if accepted else f"discarded: {_why_discarded(comparison, i - 1)}",
            )
            for i, (ratio, accepted) in enumerate(pairs, start=1)
        ),
        facts=(
            (f"Ratio at {percentile}", share(latency.ratio)),
            ("95 % interval of the ratio", share_range(latency.ratio_interval)),
            ("Noise floor", f"\N{PLUS-MINUS SIGN}{share(data.noise_floor.share)}"),
            ("Undisturbed rounds", f"{kept} of {len(pairs)}"),
            *_interruptions(comparison),
            *_canaries(comparison),
        ),
        beyond=beyond,
        percentile=percentile,
    )


def _why_discarded(comparison: Comparison, number: int) -> str:
    blocks = (comparison.baseline.blocks[number], comparison.candidate.blocks[number])
    if any(block.interruptions and not block.accepted for block in blocks):
        return "another process took the core"
    return "a canary ran slow"


def _canaries(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """What tells the state of the machine, where canaries were read."""
    quiet = comparison.candidate.quiet
    if quiet is None:
        return ()
    told = " / ".join(f"{1e6 * seconds:.0f}" for seconds in quiet.seconds)
    return (("Quiet canaries: vector / copy / scalar", f"{told} \N{MICRO SIGN}s"),)


def _interruptions(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Samples that only a percentile above the median discards; nothing where there are none."""
    gone = comparison.baseline.interrupted_samples + comparison.candidate.interrupted_samples
    return (("Interrupted samples, discarded", count(gone)),) if gone else ()


def _file(title: str, role: str, measurement: Measurement, percentile: Percentile) -> FileLatency:
    accepted = sum(b.accepted for b in measurement.blocks)
    kept, gone = int(measurement.samples_seconds.size), measurement.discarded_samples
    interval = measurement.interval_seconds(percentile) if measurement.has_interval else None
    return FileLatency(
        title=title,
        role=role,
        drawings=histograms(measurement),
        p50=milliseconds(measurement.percentile_seconds("p50")) if kept else UNKNOWN,
        p95=milliseconds(measurement.percentile_seconds("p95")) if kept else UNKNOWN,
        interval=UNKNOWN if interval is None else milliseconds_range(interval),
        samples=count(kept),
        discarded=count(gone),
        discarded_share=share(gone / (kept + gone) if kept + gone else 0.0, 0),
        rounds=f"{accepted} of {len(measurement.blocks)}",
        warmup_runs=measurement.warmup_runs,
        sha256=measurement.file_sha256,
    )


@dataclass(frozen=True)
class PredictorView:
    """How far prediction can be trusted."""

    drawings: tuple[PredictorDrawing, ...]
    tips: tuple[tuple[str, ...], ...]
    facts: tuple[tuple[str, str], ...]
    beyond: int
    recipes: int


def predictor_view(predictor: PredictorReport) -> PredictorView:
    """Word and draw the prediction's error."""
    points = readings(predictor)
    drawings = predictor_drawings(points)
    inside = f"{count(predictor.inside)} of {count(predictor.recipes)} recipes"
    return PredictorView(
        drawings=drawings,
        tips=tuple(_prediction_tip(point) for point in points),
        facts=(
            ("Recipes checked", count(predictor.recipes)),
            ("Kendall's tau", f"{predictor.kendall_tau:.2f}"),
            ("Median error", share(predictor.median_error)),
            ("Median error of the plain table sum", share(predictor.table_sum_error)),
            ("Measured inside the 95 % interval of the prediction", inside),
            ("Median half-width of the interval", _half_width(predictor)),
        ),
        beyond=sum(s.beyond for s in drawings[0].spots),
        recipes=predictor.recipes,
    )


def _prediction_tip(point: Reading) -> tuple[str, ...]:
    interval = Interval(low=point.low, high=point.high)
    return (
        f"measured {share(point.measured)}",
        f"predicted {share(point.predicted)}",
        f"95 % interval {share_range(interval)}",
    )


def _half_width(predictor: PredictorReport) -> str:
    half = median((high - low) / 2 for low, high in predictor.intervals)
    return f"\N{PLUS-MINUS SIGN}{share(half)} of the baseline's latency"


@dataclass(frozen=True)
class QualityView:
    """The metric on one set of rows."""

    where: str
    rows: str
    dense: str
    delivered: str
    drop: str
    interval: str


def quality_view(quality: Quality, where: str) -> QualityView:
    """Word one comparison."""
    words = QualityWords(quality.metric)
    return QualityView(
        where=where,
        rows=count(quality.rows),
        dense=words.value(quality.baseline_value),
        delivered=words.value(quality.value),
        drop=words.drop(quality.drop),
        interval=words.drop_range(quality.drop_interval),
    )
