"""`autosparse resolve`: another budget from what a job measured."""

from __future__ import annotations

import argparse
from threading import Event

from autosparse.cli.flags import add_config_flags, given_fields
from autosparse.cli.interruption import answering_on_interrupt
from autosparse.cli.optimize import print_result
from autosparse.cli.terminal import TerminalProgress, print_json
from autosparse.pipeline.resolve_config import ResolveConfig, read_resolve_config
from workers.resolve import resolve_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job, and what is to be different."""
    add_config_flags(parser, ResolveConfig)
    parser.add_argument(
        "--resume", action="store_true", help="Continue a resolve in the same output directory."
    )
    parser.add_argument("--json", action="store_true", help="Print the result as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Resolve; the exit code is the verdict's."""
    asked = read_resolve_config(given_fields(arguments, ResolveConfig))
    progress, answer_now = TerminalProgress(), Event()
    try:
        with answering_on_interrupt(answer_now, progress):
            result = resolve_job(asked, progress, resume=arguments.resume, answer_now=answer_now)
    finally:
        progress.close()
    if arguments.json:
        print_json({"bundle": result.bundle, **result.manifest.model_dump(mode="json")})
    else:
        print_result(result)
    return result.exit_code
