"""What every command that talks to a service is asked, and how it shows a job."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Sequence

from autosparse.cli.terminal import console, print_json
from autosparse.client.client import KEY_VARIABLE, URL_VARIABLE, Client
from autosparse.client.records import JobInfo


def add_server_flag(parser: argparse._ActionsContainer) -> None:
    """Where the service is. The key is no flag: other users of a machine can read those."""
    parser.add_argument(
        "--server", help=f"Address of the service. Without it: ${URL_VARIABLE}, else this machine. "
        f"The key is read from ${KEY_VARIABLE}.",
    )  # fmt: skip


def client_of(arguments: argparse.Namespace) -> Client:
    """The service that was named."""
    return Client(arguments.server)


def when(seconds: float | None) -> str:
    """A time as people read it, in their own time zone."""
    if seconds is None:
        return "-"
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def told(job: JobInfo) -> str:
    """What became of a job, in a word or two."""
    if job.verdict is not None:
        return job.verdict
    if job.state == "running" and job.progress is not None:
        return f"running: {job.progress.stage}"
    return job.state


def delete_each(ids: Sequence[str], delete: Callable[[str], None], *, as_json: bool) -> None:
    """Delete one after the other, and tell which were deleted, also where one could not be.

    Args:
        ids: what is to go.
        delete: removes one.
        as_json: tell it as one document.
    """
    deleted: list[str] = []
    try:
        for id_ in ids:
            delete(id_)
            deleted.append(id_)
    finally:
        if as_json:
            print_json(deleted)
        else:
            for id_ in deleted:
                console().print(f"deleted: {id_}", markup=False)


def exit_code_of(job: JobInfo) -> int:
    """What the local command would exit with; 4 where a job was stopped, 2 for bad input."""
    if job.exit_code is not None:
        return job.exit_code
    if job.problem is not None:
        return 2 if job.problem.status < 500 else 1
    return 4


def print_outcome(arguments: argparse.Namespace, job: JobInfo) -> int:
    """The job as `--json` and `--watch` ask for it; the exit code, that of the job if watched."""
    if arguments.json:
        print_json(job.model_dump(mode="json"))
    elif arguments.watch:
        print_end(job)
    return exit_code_of(job) if arguments.watch else 0


def print_end(job: JobInfo) -> None:
    """The end of a job in sentences."""
    out = console()
    out.print(f"{job.id}: {told(job)}", markup=False)
    if job.problem is not None:
        out.print(f"  {job.problem.detail}", markup=False)
        if job.problem.hint:
            out.print(f"  -> {job.problem.hint}", markup=False)
    if job.best is not None:
        out.print(
            f"  best trial: {job.best.latency_seconds * 1e3:.3f} ms "
            f"({job.best.latency_ratio:.1%} of the baseline), drop {job.best.drop:+.4g}",
            markup=False,
        )
    what = "it" if job.state == "finished" else "what is best so far, not verified"
    out.print(f"  fetch {what}: autosparse fetch {job.id}", markup=False)
