"""The top of the report: the contract, the verdict in one sentence, and what could be had."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autosparse.artifacts.manifest import LatencySummary, Manifest, Offer
from autosparse.artifacts.report_data import ReportData
from autosparse.artifacts.report_words import (
    MINUS,
    UNKNOWN,
    QualityWords,
    budget_words,
    count,
    duration,
    is_baseline_level,
    max_drop_words,
    milliseconds,
    milliseconds_range,
    plural,
    share,
    share_range,
)
from autosparse.evaluation import Evidence, Verdict
from autosparse.evaluation.simulation import SIMULATED

_TITLES = {
    Verdict.MET: "Met",
    Verdict.LATENCY_INFEASIBLE: "Latency infeasible",
    Verdict.NOT_FOUND: "Not found within the limits",
    Verdict.SIMULATED: "Not measured",
}
_TONES = {
    Verdict.MET: "good",
    Verdict.LATENCY_INFEASIBLE: "bad",
    Verdict.NOT_FOUND: "warn",
    Verdict.SIMULATED: "warn",
}
_HELD = (Verdict.MET, Verdict.SIMULATED)
SIMULATED_MARK = f"{SIMULATED}: "
"""Before whatever tells a latency that was not measured."""
NOT_MEASURED = (
    f"Every latency in this report is {SIMULATED}: it comes from an analytic model of the device, "
    "which says what is worth trying and proves nothing. Verify the bundle on the device: "
    "autosparse verify BUNDLE --target rpc://HOST:PORT."
)


@dataclass(frozen=True)
class Figure:
    """One of the numbers that are read first."""

    label: str
    value: str
    beside: str


@dataclass(frozen=True)
class Clause:
    """One half of the contract."""

    name: str
    asked: str
    bound: str
    measured: str
    interval: str
    holds: bool


@dataclass(frozen=True)
class OfferRow:
    """A contract that could be met instead."""

    recipe_id: str
    what: str
    latency: str
    ratio: str
    drop: str
    ask_for: str


@dataclass(frozen=True)
class VerdictView:
    """What the first screen shows."""

    title: str
    tone: str
    sentence: str
    explanation: str
    figures: tuple[Figure, ...]
    clauses: tuple[Clause, ...]
    judged: str
    offers: tuple[OfferRow, ...]


def verdict_view(data: ReportData) -> VerdictView:
    """Word the verdict and both halves of the contract."""
    manifest = data.manifest
    quality = QualityWords(manifest.quality.metric)
    mark = SIMULATED_MARK if manifest.target.is_simulated else ""
    return VerdictView(
        title=mark + _TITLES[manifest.verdict],
        tone=_TONES[manifest.verdict],
        sentence=mark + _sentence(data, quality),
        explanation=_explanation(data, quality),
        figures=_figures(data, quality),
        clauses=_clauses(data, quality),
        judged=_judged(manifest),
        offers=() if manifest.verdict in _HELD else _offers(data, quality),
    )


def speed_words(latency: LatencySummary) -> str:
    """2.05x faster; or that no difference can be told."""
    if latency.ratio_interval.low <= 1.0 <= latency.ratio_interval.high:
        return "No faster than the dense model, as far as can be told"
    if latency.ratio < 1.0:
        return f"{1 / latency.ratio:.2f}x faster"
    return f"{latency.ratio:.2f}x slower"


def latencies(manifest: Manifest) -> tuple[float, float]:
    """Baseline's and delivered file's seconds at the contract's percentile."""
    latency = manifest.latency
    if manifest.contract.percentile == "p50":
        return latency.baseline_p50, latency.p50
    return latency.baseline_p95, latency.p95


def quality_words(manifest: Manifest, quality: QualityWords) -> str:
    """Accuracy 88.4 % (-0.1 points)."""
    value = quality.value(manifest.quality.value)
    if quality.is_divergence:
        return f"{quality.name} {value} from the dense model's outputs"
    return f"{quality.name} {value} ({quality.change(manifest.quality.drop)})"


def _sentence(data: ReportData, quality: QualityWords) -> str:
    manifest = data.manifest
    contract = manifest.contract
    asked = (
        f"budget {budget_words(contract)} and at most {max_drop_words(contract.max_drop, quality)}"
    )
    if manifest.verdict in _HELD:
        return f"{_delivered(data, quality)}; {asked}: met"
    if manifest.verdict is Verdict.NOT_FOUND:
        return f"{_delivered(data, quality)}; {asked}: not met"
    return _infeasible(manifest)


def _infeasible(manifest: Manifest) -> str:
    """What cannot be had, and how near one can get."""
    contract, fastest = manifest.contract, manifest.fastest
    budget = f"Budget {budget_words(contract)} ({milliseconds(_bound_seconds(manifest))})"
    if fastest is None:  # so an earlier version ended some jobs
        return f"{budget} cannot be met: the fastest recipe that was measured misses it"
    found = (
        f"the fastest recipe that was measured takes {milliseconds(fastest.latency_seconds)}, "
        f"{share(fastest.latency_ratio)} of the baseline"
    )
    if fastest.latency_ratio > 1.0:
        return f"Nothing is as fast as the model as it came: {found}"
    return f"{budget} cannot be met: {found}"


def _delivered(data: ReportData, quality: QualityWords) -> str:
    """2.05x faster: 0.204 ms instead of 0.418 ms (p50), accuracy 88.4 % (-0.1 points)."""
    manifest = data.manifest
    before, after = latencies(manifest)
    speed = speed_words(manifest.latency)
    if compressed_layers(data) == 0:
        pair = data.comparison
        if pair.candidate.file_sha256 == pair.baseline.file_sha256:
            return f"The dense model as it came, {milliseconds(after)}"
        speed = f"No layer compressed, {speed[:1].lower()}{speed[1:]}"
    return (
        f"{speed}: {milliseconds(after)} instead of "
        f"{milliseconds(before)} ({manifest.contract.percentile}), "
        f"{quality_words(manifest, quality)}"
    )


def _explanation(data: ReportData, quality: QualityWords) -> str:
    manifest = data.manifest
    if manifest.verdict is Verdict.LATENCY_INFEASIBLE:
        delivered = _delivered(data, quality)
        return (
            f"That is the fastest with quality left aside. Delivered is the nearest file: "
            f"{delivered[:1].lower()}{delivered[1:]}."
        )
    if manifest.verdict is Verdict.NOT_FOUND:
        return _not_found(data)
    if manifest.verdict is Verdict.SIMULATED:
        return NOT_MEASURED
    return (
        "The exported file was opened in a fresh process, measured against the original in "
        "alternating rounds, and evaluated on rows that no choice was made on."
    )


def _not_found(data: ReportData) -> str:
    """What is known of the budget, and what is not."""
    search = data.manifest.search
    spent = f"{plural(search.trials, 'trial')} and {duration(search.seconds)}"
    found = (
        f"The budget can be met, but no file that also keeps the quality was found in {spent}."
        if data.budget_met
        else f"No file inside the budget was found in {spent}, which does not prove that there is "
        "none."
    )
    failed = len(data.refuted)
    if failed:
        found += (
            f" {plural(failed, 'file')} met the contract in the search, and did not when verified: "
            "the notes tell why."
        )
    return f"{found} Delivered is the nearest one; more trials or time may find a better one."


def _figures(data: ReportData, quality: QualityWords) -> tuple[Figure, ...]:
    manifest = data.manifest
    latency, judged = manifest.latency, manifest.quality
    if quality.is_divergence:
        beside = "from the dense model's own outputs"
    else:
        beside = f"{quality.value(judged.baseline_value)} dense, {quality.change(judged.drop)}"
    compressed = compressed_layers(data)
    parameters = sum(row.parameters for row in data.layers)
    zeros = sum(row.parameters * row.sparsity for row in data.layers)
    return (
        Figure("Latency p50", milliseconds(latency.p50),
               f"{milliseconds(latency.baseline_p50)} dense, "
               f"{_difference(latency.p50, latency.baseline_p50)}"),
        Figure("Latency p95", milliseconds(latency.p95),
               f"{milliseconds(latency.baseline_p95)} dense, "
               f"{_difference(latency.p95, latency.baseline_p95)}"),
        Figure(quality.name[:1].upper() + quality.name[1:], quality.value(judged.value), beside),
        Figure("Compressed layers", f"{compressed} of {len(data.layers)}",
               f"{share(zeros / parameters if parameters else 0.0, 0)} of all weights are zero"),
    )  # fmt: skip


def _difference(after: float, before: float) -> str:
    change = after / before - 1.0
    sign = MINUS if change < 0 else "+"
    return f"{sign}{share(abs(change), 0)}"


def _clauses(data: ReportData, quality: QualityWords) -> tuple[Clause, ...]:
    manifest = data.manifest
    contract, latency, judged = manifest.contract, manifest.latency, manifest.quality
    interval = latency.seconds_interval
    # the gate's own two rules on the numbers that are printed; they do not read the divergence
    evidence = Evidence(
        recipe_id=manifest.recipe_id,
        latency_ratio=latency.ratio,
        latency_ratio_high=latency.ratio_interval.high,
        latency_seconds=latencies(manifest)[1],
        latency_seconds_high=None if interval is None else interval.high,
        drop=judged.drop,
        drop_high=judged.drop_interval.high,
        divergence=0.0,
        compressed_layers=compressed_layers(data),
    )
    asked = f"{budget_words(contract)} of the baseline" if contract.budget.is_relative else (
        budget_words(contract)
    )  # fmt: skip
    return (
        Clause(
            name=f"Latency ({contract.percentile})",
            asked=f"at most {asked}",
            bound=f"{milliseconds(_bound_seconds(manifest))} = {share(contract.latency_ratio)}",
            measured=f"{milliseconds(latencies(manifest)[1])} = {share(latency.ratio)}",
            interval=_latency_range(manifest),
            holds=evidence.meets_budget(contract),
        ),
        Clause(
            name=quality.name if quality.is_divergence else f"Drop of {quality.name}",
            asked=f"at most {max_drop_words(contract.max_drop, quality)}",
            bound=quality.drop(contract.allowed_drop()),
            measured=quality.drop(judged.drop),
            interval=quality.drop_range(judged.drop_interval),
            holds=evidence.meets_drop(contract),
        ),
    )


def _judged(manifest: Manifest) -> str:
    side = "the interval's upper bound" if manifest.contract.strict else "the measured value"
    return (
        f"Judged by {side}: {count(manifest.latency.samples)} samples of the delivered file beside "
        f"the baseline's, and {plural(manifest.quality.rows, 'row')} that the search never saw."
    )


def _bound_seconds(manifest: Manifest) -> float:
    return manifest.contract.bound_seconds


def _latency_range(manifest: Manifest) -> str:
    """48.1 to 49.5 %; of a budget in time also what decides, 7.93 to 7.99 ms."""
    latency = manifest.latency
    ratio, seconds = share_range(latency.ratio_interval), latency.seconds_interval
    if manifest.contract.budget.is_relative or seconds is None:
        return ratio
    return f"{milliseconds_range(seconds)} = {ratio}"


def _offers(data: ReportData, quality: QualityWords) -> tuple[OfferRow, ...]:
    """What could be had: nothing that has just failed, then."""
    manifest = data.manifest
    fastest = manifest.fastest
    named = [] if fastest is None else [(fastest, "the fastest that was measured")]
    named += [
        (offer, "on the measured front")
        for offer in manifest.offers
        if fastest is None or offer.recipe_id != fastest.recipe_id
    ]
    named = [(offer, what) for offer, what in named if offer.recipe_id not in data.refuted]
    return tuple(_offer(offer, what, manifest, quality) for offer, what in named)


def _offer(offer: Offer, what: str, manifest: Manifest, quality: QualityWords) -> OfferRow:
    return OfferRow(
        recipe_id=offer.recipe_id,
        what=what,
        latency=milliseconds(offer.latency_seconds),
        ratio=share(offer.latency_ratio),
        drop=UNKNOWN if offer.drop is None else quality.drop(offer.drop),
        ask_for=UNKNOWN if offer.drop is None else _flags(offer, offer.drop, manifest, quality),
    )


def _flags(offer: Offer, drop: float, manifest: Manifest, quality: QualityWords) -> str:
    """The contract in flags, rounded to the lenient side: a tighter one was not measured."""
    percent = math.ceil(offer.latency_ratio * 100)
    bound = max(drop, manifest.contract.allowed_drop(), 0.0)
    if quality.in_points:
        allowed = f"{math.ceil(round(bound * 1000, 6)) / 10:g}pt"
    else:
        allowed = f"{_round_up(bound):g}"
    percentile = manifest.contract.percentile
    flags = f"--latency-budget {percent}% --max-drop {allowed}"
    return flags if percentile == "p50" else f"{flags} --percentile {percentile}"


def _round_up(value: float) -> float:
    """Up to two significant digits."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / step, 6)) * step:.2g}")


def compressed_layers(data: ReportData) -> int:
    """Layers that do not stay as they came."""
    return sum(not is_baseline_level(row.level) for row in data.layers)
