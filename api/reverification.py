"""Whether a bundle that was measured again has become worse than when it was delivered.

A regression has to be larger than what a second measurement of the same file may differ by: whole
intervals are compared, and what only the machine's mood can explain is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosparse.artifacts.manifest import Manifest
from autosparse.evaluation import Environment, Verdict
from autosparse.evaluation.budget import byte_words
from autosparse.evaluation.quiet_state import change_words
from autosparse.pipeline.bench_building import ENVIRONMENT_FILE
from autosparse.pipeline.verification import Verified
from autosparse.pipeline.verify import Verification

# Vector units drop to 40 % of their speed for a while: seconds of two runs differ by that much
# without anything being wrong. Ratios do not, since both files of a run are timed in turns.
_OF_THE_MACHINE = 2.5
# Ratios of two runs may differ by a little more than the interval of one tells: where memory lies.
_OF_TWO_RUNS = 0.02


def reverified(found: Verification, bundle: Path, tolerance: float) -> dict[str, Any]:
    """What measuring a bundle again gave, beside what it was delivered with.

    Args:
        found: the second measurement.
        bundle: its directory.
        tolerance: how much slower is no regression, as a fraction.
    """
    verified, promised = found.verified, found.manifest
    percentile = verified.contract.percentile
    interval = verified.comparison.ratio_interval(percentile)
    delivered_on = Environment.model_validate_json((bundle / ENVIRONMENT_FILE).read_bytes())
    here = found.environment
    return {
        "holds": verified.holds,
        "latency_ratio": verified.evidence.latency_ratio,
        "latency_ratio_low": interval.low,
        "latency_ratio_high": interval.high,
        "latency_seconds": verified.comparison.candidate.percentile_seconds(percentile),
        "baseline_seconds": verified.comparison.baseline.percentile_seconds(percentile),
        "drop": verified.quality.drop,
        "recipe_id": promised.recipe_id,
        "environment": here.id,
        "libraries": here.libraries,
        "delivered": {
            "latency_ratio": promised.latency.ratio,
            "latency_ratio_high": promised.latency.ratio_interval.high,
            "latency_seconds": _promised_seconds(promised),
            "drop": promised.quality.drop,
            "environment": promised.environment,
            "libraries": delivered_on.libraries,
        },
        "regressions": regressions(
            promised, verified, tolerance, same_machine=_same_machine(delivered_on, here)
        ),
    }


def regressions(
    promised: Manifest, found: Verified, tolerance: float, *, same_machine: bool
) -> list[str]:
    """What has become worse, a sentence for each; empty where nothing has.

    Args:
        promised: what the bundle was delivered with.
        found: the second measurement.
        tolerance: how much slower is no regression, as a fraction.
        same_machine: whether seconds may be compared at all.
    """
    contract, percentile = found.contract, found.contract.percentile
    ratio = found.comparison.ratio_interval(percentile)
    delivered = promised.latency.ratio_interval.high
    changed = change_words(
        promised.latency.vector_pace, found.comparison.vector_pace, "when it was delivered"
    )
    because = changed and f"; {changed}"
    told = []
    missed = ratio.low > max(contract.latency_ratio, delivered * (1.0 + _OF_TWO_RUNS))
    if promised.verdict is Verdict.MET and missed:
        told.append(
            f"it misses its budget: {ratio.low:.1%} to {ratio.high:.1%} of the baseline's "
            f"{percentile}, where {contract.latency_ratio:.1%} are allowed{because}"
        )
    if ratio.low > delivered * (1.0 + tolerance):
        told.append(
            f"it is slower against the baseline: {ratio.low:.1%} to {ratio.high:.1%}, delivered "
            f"with {promised.latency.ratio:.1%}{because}"
        )
    seconds = found.comparison.candidate.interval_seconds(percentile).low
    before = _promised_seconds(promised)
    if same_machine and seconds > before * (1.0 + tolerance) * _OF_THE_MACHINE:
        told.append(
            f"it takes {seconds * 1e3:.3f} ms or more, delivered with {before * 1e3:.3f} ms on "
            "the same processor"
        )
    lost = found.quality.drop > max(contract.allowed_drop(), promised.quality.drop)
    if promised.verdict is Verdict.MET and lost and not found.evidence.meets_drop(contract):
        told.append(
            f"it answers worse: {found.quality.metric} drops by {found.quality.drop:.4g}, "
            f"delivered with {promised.quality.drop:.4g}"
        )
    over = [c for c in found.evidence.missed(contract) if c in ("size", "memory")]
    if promised.verdict is Verdict.MET and over:
        size, peak = found.evidence.size_bytes or 0, found.evidence.peak_memory_bytes or 0
        told.append(
            f"it is over {contract.limit_flags(over)}: {byte_words(size)} on disk, "
            f"{byte_words(peak)} of memory"
        )
    return told


def _promised_seconds(promised: Manifest) -> float:
    seconds: Mapping[str, float] = {"p50": promised.latency.p50, "p95": promised.latency.p95}
    return seconds[promised.contract.percentile]


def _same_machine(one: Environment, other: Environment) -> bool:
    return (one.cpu, one.cores, one.instruction_sets) == (
        other.cpu, other.cores, other.instruction_sets,
    )  # fmt: skip
