"""The entry point: parse, call, render."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

from rich.console import Console

import autosparse
from autosparse.errors import AutoSparseError


class Command(NamedTuple):
    """Where a command lies, and what it does in a line."""

    module: str
    """Has `add_arguments` and `run`; imported when the command is asked for."""
    summary: str


COMMANDS = {
    "optimize": Command(
        "autosparse.cli.optimize", "find the most accurate model that meets a latency budget"
    ),
    "profile": Command(
        "autosparse.cli.profile", "tell where a model's time goes, and where sparsity would pay"
    ),
    "resolve": Command("autosparse.cli.resolve", "answer another budget from what a job measured"),
    "replay": Command("autosparse.cli.replay", "play a search again from its log, on no device"),
    "verify": Command("autosparse.cli.verify", "measure and evaluate a delivered bundle again"),
    "export": Command("autosparse.cli.export", "write a delivered model as .ort files for phones"),
    "agent": Command("autosparse.cli.agent", "measure on this device for jobs that run elsewhere"),
    "benchmark": Command("autosparse.cli.benchmark", "time model files against each other"),
    "methods": Command(
        "autosparse.cli.catalog", "list what makes levels, and what is done before and after"
    ),
    "strategies": Command("autosparse.cli.catalog", "list the strategies that propose recipes"),
    "backends": Command("autosparse.cli.catalog", "list the backends that run models"),
    "spaces": Command("autosparse.cli.catalog", "list the search spaces"),
    "serve": Command("autosparse.cli.serve", "run the service on this machine"),
    "submit": Command("autosparse.cli.submit", "submit a job to a service"),
    "jobs": Command("autosparse.cli.jobs", "list the jobs of a service, or show one"),
    "watch": Command("autosparse.cli.watch", "follow a job of a service until it ends"),
    "fetch": Command("autosparse.cli.fetch", "download what a job of a service delivered"),
    "cancel": Command("autosparse.cli.cancel", "stop a job of a service"),
    "resume": Command("autosparse.cli.resume", "let an ended job of a service go on"),
    "change": Command(
        "autosparse.cli.change", "change the name or priority of a job of a service, or keep it"
    ),
    "delete": Command("autosparse.cli.delete", "remove ended jobs of a service"),
    "uploads": Command(
        "autosparse.cli.uploads", "list or remove models, datasets and targets of a service"
    ),
    "schedule": Command("autosparse.cli.schedule", "let a service do something again and again"),
    "demo": Command("autosparse.cli.demo", "train a small model, optimize it, verify it"),
}
_INTERRUPTED = 130
_NEGATIVE, _BARE_FLAG = re.compile(r"-[0-9.]"), re.compile(r"--[a-z-]+")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command.

    Returns:
        0 where the contract was met (or the command has none), 2 for bad input, 3 where the
        budget is infeasible, 4 where nothing was found within the limits, 1 for our own bugs.
    """
    asked: argparse.Namespace | None = None
    try:
        asked = _parse(argv)
        return int(importlib.import_module(COMMANDS[asked.command].module).run(asked))
    except ImportError as error:
        if "shadowed" not in str(error):
            raise
        _complain(str(error))
        return 2
    except AutoSparseError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted", _how_to_go_on(asked))
        return _INTERRUPTED


def _how_to_go_on(asked: argparse.Namespace | None) -> str:
    """What an interrupted command is continued by; empty where it begins anew."""
    if asked is None or "resume" not in asked:
        return ""
    return "run the same command with --resume to go on"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Import only the command that is asked for: help must not wait for torch."""
    parser = argparse.ArgumentParser(
        prog="autosparse",
        description="From a trained model and a latency budget to the most accurate model that "
        "measurably meets it.",
    )
    parser.add_argument(
        "--version", action="version", version=f"autosparse {version('autosparse')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in argv if word in COMMANDS), None)
    for name, command in COMMANDS.items():
        described = commands.add_parser(name, help=command.summary, description=command.summary)
        if name == asked:
            autosparse.check_siblings()
            importlib.import_module(command.module).add_arguments(described)
    return parser.parse_args(_joined(argv))


def _joined(argv: Sequence[str]) -> list[str]:
    """Join flags and negative values: argparse would take `-3ms` for a flag."""
    joined: list[str] = []
    for word in argv:
        if _NEGATIVE.match(word) and joined and _BARE_FLAG.fullmatch(joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _complain(message: str, hint: str = "") -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"error: {message}", markup=False, style="red")
    if hint:
        console.print(f"  -> {hint}", markup=False)


if __name__ == "__main__":
    main()
