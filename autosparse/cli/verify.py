"""`autosparse verify`: measure and evaluate a delivered bundle again."""

from __future__ import annotations

import argparse
from pathlib import Path

from autosparse.cli.optimize import asked_text, bytes_text
from autosparse.cli.terminal import TerminalProgress, console, drop_text, print_json
from autosparse.evaluation.simulation import SIMULATED
from workers.local import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle, and where its model and data are now."""
    parser.add_argument("bundle", type=Path, help="Delivered directory (OUTPUT_DIR/bundle).")
    parser.add_argument("--model", type=Path, help="The original model, if it was moved.")
    parser.add_argument("--validation", type=Path, help="The validation file, if it was moved.")
    parser.add_argument(
        "--target",
        help="Target file, rpc://HOST:PORT of an agent, or sim://NAME. Without it: the bundle's.",
    )
    parser.add_argument("--json", action="store_true", help="Print the result as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Verify; 0 only where the contract holds here and now."""
    progress = TerminalProgress()
    try:
        found = verify(
            arguments.bundle,
            model=arguments.model,
            validation=arguments.validation,
            target=arguments.target,
            progress=progress,
        )
    finally:
        progress.close()
    verified = found.verified
    percentile = verified.contract.percentile
    interval = verified.comparison.ratio_interval(percentile)
    baseline_seconds, seconds = verified.comparison.seconds(percentile)
    if arguments.json:
        print_json(
            {
                "verdict": found.verdict,
                "holds": verified.holds,
                "simulated": found.target.is_simulated,
                "latency_ratio": verified.evidence.latency_ratio,
                "latency_ratio_interval": interval.model_dump(),
                "latency_seconds": seconds,
                "baseline_seconds": baseline_seconds,
                "quality": verified.quality.model_dump(mode="json"),
                "size_bytes": verified.evidence.size_bytes,
                "peak_memory_bytes": verified.evidence.peak_memory_bytes,
                "missed": verified.evidence.missed(verified.contract),
                "what_changed": found.what_changed,
            }
        )
        return found.verdict.exit_code
    drop = drop_text(verified.quality.drop, verified.quality.metric)
    mark = f"{SIMULATED}, NOT MEASURED: " if found.target.is_simulated else ""
    console().print(
        f"{mark}{'HOLDS' if verified.holds else 'DOES NOT HOLD'}: "
        f"{seconds * 1e3:.3f} ms, {verified.evidence.latency_ratio:.1%} of the baseline's "
        f"{percentile} of {baseline_seconds * 1e3:.3f} ms "
        f"(95 % interval {interval.low:.1%} to {interval.high:.1%}), "
        f"{verified.quality.metric} drop {drop}"
        f"{bytes_text(verified.evidence.size_bytes, verified.evidence.peak_memory_bytes)}; "
        f"{asked_text(verified.contract)}.",
        markup=False,
    )
    if found.what_changed:
        console().print(f"Note: {found.what_changed}.", markup=False)
    return found.verdict.exit_code
