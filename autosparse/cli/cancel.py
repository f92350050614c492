"""`autosparse cancel`: stop a job of a service."""

from __future__ import annotations

import argparse

from autosparse.cli.service_access import add_server_flag, client_of, told
from autosparse.cli.terminal import console, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job."""
    parser.add_argument("job", help="Id of the job.")
    add_server_flag(parser)
    parser.add_argument("--json", action="store_true", help="Print the job as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Cancel it; what it found so far stays."""
    with client_of(arguments) as client:
        job = client.cancel(arguments.job)
    if arguments.json:
        print_json(job.model_dump(mode="json"))
    else:
        console().print(f"{job.id}: {told(job)}", markup=False)
    return 0
