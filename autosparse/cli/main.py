"""The entry point: parse, call, render."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from rich.console import Console

import autosparse
from autosparse.errors import AutoSparseError

COMMANDS = {
    "optimize": "autosparse.cli.optimize",
    "verify": "autosparse.cli.verify",
    "benchmark": "autosparse.cli.benchmark",
    "methods": "autosparse.cli.catalog",
    "strategies": "autosparse.cli.catalog",
    "backends": "autosparse.cli.catalog",
    "spaces": "autosparse.cli.catalog",
    "demo": "autosparse.cli.demo",
}
_SUMMARIES = {
    "optimize": "find the most accurate model that meets a latency budget",
    "verify": "measure and evaluate a delivered bundle again",
    "benchmark": "time model files against each other",
    "methods": "list the methods that make levels",
    "strategies": "list the strategies that propose recipes",
    "backends": "list the backends that run models",
    "spaces": "list the search spaces",
    "demo": "train a small model, optimize it, verify it",
}
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command.

    Returns:
        0 where the contract was met (or the command has none), 2 for bad input, 3 where the
        budget is infeasible, 4 where nothing was found within the limits, 1 for our own bugs.
    """
    try:
        arguments = _parse(argv)
        return int(importlib.import_module(COMMANDS[arguments.command]).run(arguments))
    except ImportError as error:
        if "shadowed" not in str(error):
            raise
        _complain(str(error))
        return 2
    except AutoSparseError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted", "run the same command with --resume to go on")
        return _INTERRUPTED


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Import only the command that is asked for: help must not wait for torch."""
    parser = argparse.ArgumentParser(
        prog="autosparse",
        description="From a trained model and a latency budget to the most accurate model that "
        "measurably meets it.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in argv if word in COMMANDS), None)
    for name, summary in _SUMMARIES.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == asked:
            autosparse.check_siblings()
            importlib.import_module(COMMANDS[name]).add_arguments(command)
    return parser.parse_args(argv)


def _complain(message: str, hint: str = "") -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"error: {message}", markup=False, style="red")
    if hint:
        console.print(f"  -> {hint}", markup=False)


if __name__ == "__main__":
    main()
