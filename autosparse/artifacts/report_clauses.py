"""The contract as the report holds it against what was measured: one clause for each bound."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.artifacts.manifest import Manifest
from autosparse.artifacts.report_data import ReportData
from autosparse.artifacts.report_words import (
    UNKNOWN,
    QualityWords,
    budget_words,
    is_baseline_level,
    max_bytes_words,
    max_drop_words,
    megabytes,
    milliseconds,
    milliseconds_range,
    share,
    share_range,
)
from autosparse.evaluation import Contract, Evidence, MaxBytes


@dataclass(frozen=True)
class Clause:
    """One bound of the contract."""

    name: str
    asked: str
    bound: str
    measured: str
    interval: str
    holds: bool


def clauses(data: ReportData, quality: QualityWords) -> tuple[Clause, ...]:
    """Latency and quality, and what else the contract limits."""
    manifest = data.manifest
    contract, latency, judged = manifest.contract, manifest.latency, manifest.quality
    missed = _evidence(data).missed(contract)
    asked = f"{budget_words(contract)} of the baseline" if contract.budget.is_relative else (
        budget_words(contract)
    )  # fmt: skip
    return (
        Clause(
            name=f"Latency ({contract.percentile})",
            asked=f"at most {asked}",
            bound=f"{milliseconds(contract.bound_seconds)} = {share(contract.latency_ratio)}",
            measured=f"{milliseconds(latencies(manifest)[1])} = {share(latency.ratio)}",
            interval=_latency_range(manifest),
            holds="latency" not in missed,
        ),
        Clause(
            name=quality.name if quality.is_divergence else f"Drop of {quality.name}",
            asked=f"at most {max_drop_words(contract.max_drop, quality)}",
            bound=quality.drop(contract.allowed_drop()),
            measured=quality.drop(judged.drop),
            interval=quality.drop_range(judged.drop_interval),
            holds="quality" not in missed,
        ),
        *(
            Clause(
                name=name, asked=f"at most {max_bytes_words(limit)}", bound=megabytes(bound),
                measured=megabytes(count), interval=UNKNOWN, holds=key not in missed,
            )
            for key, name, limit, bound, count in _limits(manifest)
            if limit is not None
        ),
    )  # fmt: skip


def asked_words(contract: Contract, quality: QualityWords) -> str:
    """Budget 60 % and at most 1 point; with limits, those follow."""
    asked = [
        f"budget {budget_words(contract)}",
        f"at most {max_drop_words(contract.max_drop, quality)}",
    ]
    if contract.max_size is not None:
        asked.append(f"at most {max_bytes_words(contract.max_size)} on disk")
    if contract.max_memory is not None:
        asked.append(f"at most {max_bytes_words(contract.max_memory)} of memory")
    return f"{', '.join(asked[:-1])} and {asked[-1]}"


def latencies(manifest: Manifest) -> tuple[float, float]:
    """Baseline's and delivered file's seconds at the contract's percentile."""
    latency = manifest.latency
    if manifest.contract.percentile == "p50":
        return latency.baseline_p50, latency.p50
    return latency.baseline_p95, latency.p95


def _latency_range(manifest: Manifest) -> str:
    """48.1 to 49.5 %; of a budget in time also what decides, 7.93 to 7.99 ms."""
    latency = manifest.latency
    ratio, seconds = share_range(latency.ratio_interval), latency.seconds_interval
    if manifest.contract.budget.is_relative or seconds is None:
        return ratio
    return f"{milliseconds_range(seconds)} = {ratio}"


def compressed_layers(data: ReportData) -> int:
    """Layers that do not stay as they came."""
    return sum(not is_baseline_level(row.level) for row in data.layers)


def _evidence(data: ReportData) -> Evidence:
    """What the gate's own rules read of the numbers that are printed; not the divergence."""
    manifest = data.manifest
    footprint, interval = manifest.footprint, manifest.latency.seconds_interval
    return Evidence(
        recipe_id=manifest.recipe_id,
        latency_ratio=manifest.latency.ratio,
        latency_ratio_high=manifest.latency.ratio_interval.high,
        latency_seconds=latencies(manifest)[1],
        latency_seconds_high=None if interval is None else interval.high,
        drop=manifest.quality.drop,
        drop_high=manifest.quality.drop_interval.high,
        divergence=0.0,
        compressed_layers=compressed_layers(data),
        size_bytes=None if footprint is None else footprint.size_bytes,
        peak_memory_bytes=None if footprint is None else footprint.peak_memory_bytes,
    )


def _limits(
    manifest: Manifest,
) -> tuple[tuple[str, str, MaxBytes | None, float | None, int | None], ...]:
    """(clause, its name, what was asked, bytes allowed, bytes measured)."""
    contract, footprint = manifest.contract, manifest.footprint
    size = None if footprint is None else footprint.size_bytes
    peak = None if footprint is None else footprint.peak_memory_bytes
    return (
        ("size", "Size on disk", contract.max_size, contract.size_bound, size),
        ("memory", "Peak memory", contract.max_memory, contract.memory_bound, peak),
    )
