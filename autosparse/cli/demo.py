"""`autosparse demo`: train a small model, optimize it for 60 % of its latency, verify it."""

from __future__ import annotations

import argparse
from pathlib import Path

from autosparse.cli.optimize import print_result
from autosparse.cli.terminal import TerminalProgress, console, print_json
from autosparse.errors import StorageError
from autosparse.pipeline.config import read_config
from autosparse.pipeline.job import target_of
from autosparse.pipeline.optimize import run_job
from workers.local import local_engines, verify

_BUDGET, _MAX_DROP, _TRIALS = "60%", "1pt", 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to put everything."""
    parser.add_argument(
        "--output-dir", type=Path, default=Path("autosparse-demo"), help="Must not exist yet."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of training and search.")
    parser.add_argument("--json", action="store_true", help="Print the manifest as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Train, optimize, verify; 0 only where all of it held."""
    from autosparse.cli.digits_cnn import make_demo_files

    root: Path = arguments.output_dir
    if root.exists() and any(root.iterdir()):
        raise StorageError(
            f"the demo's directory {root} is not empty",
            hint="remove it, or give another --output-dir",
        )
    progress = TerminalProgress()
    progress.stage("train", "a small CNN on scikit-learn's digits")
    files = make_demo_files(root / "model", arguments.seed)
    config = read_config(
        {
            "model": files.model,
            "calibration": files.calibration,
            "validation": files.validation,
            "latency_budget": _BUDGET,
            "max_drop": _MAX_DROP,
            "trials": _TRIALS,
            "seed": arguments.seed,
            "output_dir": root / "result",
        }
    )
    with local_engines(target_of(config), progress) as engines:
        result = run_job(config, engines)
    progress.stage("verify", "the delivered bundle, as `autosparse verify` does")
    found = verify(result.bundle, progress=progress)
    progress.close()
    if arguments.json:
        print_json({"bundle": result.bundle, **result.manifest.model_dump(mode="json")})
    else:
        print_result(result)
        console().print(
            f"verified again: {found.verified.evidence.latency_ratio:.1%} of the baseline, "
            f"{'holds' if found.verified.holds else 'does not hold'}",
            markup=False,
        )
    return result.exit_code or found.verdict.exit_code
