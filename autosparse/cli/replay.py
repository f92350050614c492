"""`autosparse replay`: a search again from its log, without the device."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from autosparse.cli.terminal import TerminalProgress, console, print_json
from workers.replay import replay

_DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job."""
    parser.add_argument(
        "source", type=Path, help="Output directory of a job, or the bundle beside it."
    )
    parser.add_argument("--json", action="store_true", help="Print the result as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Replay; 0 only where every choice comes out as it is logged."""
    progress = TerminalProgress()
    try:
        found = replay(arguments.source, progress=progress)
    finally:
        progress.close()
    if arguments.json:
        print_json(asdict(found))
    else:
        console().print(
            f"{'DIFFERENT' if found.difference else 'THE SAME'}: {found.trials} of {found.logged} "
            f"trials and {found.candidates} candidates of {found.strategy} with seed {found.seed}"
            + (f"; {found.difference}." if found.difference else "."),
            markup=False,
        )
    return _DIFFERENT if found.difference else 0
