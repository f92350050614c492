"""`autosparse fetch`: what a job of a service delivered, with its checksums compared."""

from __future__ import annotations

import argparse
from pathlib import Path

from autosparse.cli.service_access import add_server_flag, client_of
from autosparse.cli.terminal import console, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, and where to."""
    parser.add_argument("job", help="Id of the job.")
    add_server_flag(parser)
    parser.add_argument(
        "--output-dir", type=Path, default=Path("bundle"), help="Directory to make."
    )
    parser.add_argument("--json", action="store_true", help="Print what was fetched as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Download everything, or nothing."""
    with client_of(arguments) as client:
        place = client.fetch(arguments.job, arguments.output_dir)
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    if arguments.json:
        print_json({"bundle": str(place), "files": files})
    else:
        console().print(f"{len(files)} files in {place}", markup=False)
    return 0
