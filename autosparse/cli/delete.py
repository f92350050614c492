"""`autosparse delete`: remove ended jobs of a service."""

from __future__ import annotations

import argparse

from autosparse.cli.service_access import add_server_flag, client_of, delete_each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which jobs."""
    parser.add_argument("jobs", nargs="+", metavar="job", help="Id of a job that has ended.")
    add_server_flag(parser)
    parser.add_argument("--json", action="store_true", help="Print what was deleted as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Remove them with what they delivered."""
    with client_of(arguments) as client:
        delete_each(arguments.jobs, client.delete, as_json=arguments.json)
    return 0
