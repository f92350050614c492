"""`autosparse watch`: what happens to a job, until it ends."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from autosparse.cli.service_access import (
    add_server_flag,
    client_of,
    exit_code_of,
    print_end,
    when,
)
from autosparse.cli.terminal import print_json
from autosparse.client.client import Client
from autosparse.client.records import JobInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job."""
    parser.add_argument("job", help="Id of the job.")
    add_server_flag(parser)
    parser.add_argument("--json", action="store_true", help="Print the ended job as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Follow; the exit code is the verdict's."""
    with client_of(arguments) as client:
        job = follow(client, arguments.job)
    if arguments.json:
        print_json(job.model_dump(mode="json"))
    else:
        print_end(job)
    return exit_code_of(job)


def follow(client: Client, job_id: str) -> JobInfo:
    """Tell a job's events on standard error until it ends."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    for event in client.events(job_id):
        line = f"{when(event.at)}  {event.kind:<6} {_sentence(event.kind, event.data)}"
        out.print(line, markup=False)
    return client.job(job_id)


def _sentence(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "trial":
        return (
            f"{data['number']}: {data['latency_seconds'] * 1e3:.3f} ms "
            f"({data['latency_ratio']:.1%}), drop {data['drop']:+.4g}"
        )
    if kind == "stage":
        return f"{data['stage']}: {data['detail']}" if data["detail"] else str(data["stage"])
    return str(data.get("state") or data.get("text") or data)
