"""`autosparse submit`: the flags of `optimize`, for a job that a service runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from autosparse.cli.flags import add_config_flags, given_fields, what_a_job_needs
from autosparse.cli.service_access import add_server_flag, client_of, print_outcome
from autosparse.cli.terminal import console
from autosparse.cli.watch import follow
from autosparse.errors import ConfigError
from autosparse.pipeline.config import read_config

# Where a job keeps its files is the service's to decide.
_NOT_SUBMITTED = frozenset({"output_dir", "schema_version"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job's fields, and what the service is told beside them."""
    parser.usage = what_a_job_needs()
    add_config_flags(parser)
    command = parser.add_argument_group("the submission")
    command.add_argument(
        "--config", type=Path, metavar="FILE",
        help="YAML or JSON document with these fields; what is given here goes before it.",
    )  # fmt: skip
    add_server_flag(command)
    command.add_argument("--name", default="", help="Name of the job, for people.")
    command.add_argument("--priority", type=int, default=0, help="Higher ones are begun first.")
    command.add_argument("--device", help="Device to run on, where the service has several.")
    command.add_argument("--idempotency-key", help="The same key leads to the same job.")
    command.add_argument("--watch", action="store_true", help="Follow the job until it ends.")
    command.add_argument("--json", action="store_true", help="Print the job as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Upload, submit; with --watch, exit as the job does."""
    config = read_config(given_fields(arguments), arguments.config)
    if "output_dir" in config.model_fields_set:
        raise ConfigError(
            "--output-dir is the service's to decide",
            hint="leave it away, and give it to `autosparse fetch`",
        )
    fields = config.model_dump(mode="json", exclude_unset=True, exclude=set(_NOT_SUBMITTED))
    with client_of(arguments) as client:
        job = client.submit(
            fields.pop("model"),
            name=arguments.name,
            priority=arguments.priority,
            idempotency_key=arguments.idempotency_key,
            device=arguments.device,
            **fields,
        )
        if not arguments.json:
            console().print(f"accepted: {job.id}", markup=False)
        if arguments.watch:
            job = follow(client, job.id)
    return print_outcome(arguments, job)
