"""`autosparse change`: a job's name, its priority, and whether it is kept."""

from __future__ import annotations

import argparse

from autosparse.cli.service_access import add_server_flag, client_of, told
from autosparse.cli.terminal import console, print_json
from autosparse.errors import ConfigError

_CHANGES = ("name", "priority", "kept")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, and what of it."""
    parser.add_argument("job", help="Id of the job.")
    parser.add_argument("--name", help="Another name, for people.")
    parser.add_argument("--priority", type=int, help="Higher ones are begun first.")
    parser.add_argument(
        "--kept", action=argparse.BooleanOptionalAction,
        help="Whether it stays however long ago it ended.",
    )  # fmt: skip
    add_server_flag(parser)
    parser.add_argument("--json", action="store_true", help="Print the job as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Change it; what it measured stays as it is."""
    given = {name: getattr(arguments, name) for name in _CHANGES}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise ConfigError(
            "nothing is to be changed", hint="give --name, --priority, --kept or --no-kept"
        )
    with client_of(arguments) as client:
        job = client.change(arguments.job, **changes)
    if arguments.json:
        print_json(job.model_dump(mode="json"))
    else:
        kept = ", kept" if job.kept else ""
        line = f"{job.id}: {told(job)}, priority {job.priority}{kept}  {job.name}"
        console().print(line.rstrip(), markup=False)
    return 0
