"""`autosparse resume`: let a job of a service go on."""

from __future__ import annotations

import argparse

from autosparse.cli.flags import add_wishes, given_fields
from autosparse.cli.service_access import add_server_flag, client_of, print_outcome, told
from autosparse.cli.terminal import console
from autosparse.cli.watch import follow
from autosparse.client.records import MAY_CHANGE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, and what is to be different from now on."""
    parser.add_argument("job", help="Id of a job that has ended.")
    add_wishes(parser, MAY_CHANGE)
    add_server_flag(parser)
    parser.add_argument("--watch", action="store_true", help="Follow the job until it ends.")
    parser.add_argument("--json", action="store_true", help="Print the job as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Resume it: what was measured counts; with --watch, exit as the job does."""
    with client_of(arguments) as client:
        job = client.resume(arguments.job, **given_fields(arguments))
        if arguments.watch:
            job = follow(client, job.id)
    if not (arguments.json or arguments.watch):
        console().print(f"{job.id}: {told(job)}", markup=False)
    return print_outcome(arguments, job)
