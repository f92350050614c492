"""`autosparse jobs`: the jobs of a service."""

from __future__ import annotations

import argparse
import itertools

from autosparse.cli.service_access import add_server_flag, client_of, told, when
from autosparse.cli.terminal import print_json, print_table

_FILTERS = {
    "state": "Only queued, running, finished, failed or cancelled ones.",
    "name": "Only those whose name has this in it.",
    "kind": "Only those of a kind: search, resolve, reverify or refresh_atlas.",
    "verdict": "Only those that ended so: met, latency-infeasible, not-found-within-limits ...",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which jobs."""
    parser.add_argument("job", nargs="?", help="Id of one job; without it, all are listed.")
    add_server_flag(parser)
    for name, meaning in _FILTERS.items():
        parser.add_argument(f"--{name}", help=meaning)
    parser.add_argument("--limit", type=int, default=50, help="Most jobs to list, newest first.")
    parser.add_argument("--json", action="store_true", help="Print them as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Print a table."""
    with client_of(arguments) as client:
        if arguments.job is not None:
            jobs = [client.job(arguments.job)]
        else:
            given = {name: getattr(arguments, name) for name in _FILTERS}
            chosen = {name: value for name, value in given.items() if value is not None}
            jobs = list(itertools.islice(client.jobs(**chosen), max(arguments.limit, 0)))
    if arguments.json:
        documents = [job.model_dump(mode="json") for job in jobs]
        print_json(documents[0] if arguments.job is not None else documents)
        return 0
    rows = [
        (job.id, job.name, told(job), str(job.request.get("latency_budget", "")),
         "-" if job.best is None else f"{job.best.latency_ratio:.1%}", when(job.created))
        for job in jobs
    ]  # fmt: skip
    print_table("jobs", ("id", "name", "state", "budget", "best", "created"), rows)
    return 0
