"""`autosparse serve`: the service on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from autosparse.cli.terminal import console, print_json
from autosparse.errors import NotInstalledError

if TYPE_CHECKING:
    from api.settings import ServerSettings
    from autosparse.client.key_records import NewKey

_EXTRA = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "prometheus_client", "cronsim", "fsspec")
_UNLESS_GIVEN = argparse.SUPPRESS  # what is not given may be in the environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, and where to keep things."""
    parser.add_argument(
        "--home", type=Path, default=_UNLESS_GIVEN,
        help="Directory of the database, the uploads and the jobs. Without it: autosparse-service.",
    )  # fmt: skip
    parser.add_argument(
        "--host", default=_UNLESS_GIVEN, help="Address to listen on. Without it: 127.0.0.1."
    )
    parser.add_argument(
        "--port", type=int, default=_UNLESS_GIVEN,
        help="Port; 0 takes a free one. Without it: 8377.",
    )  # fmt: skip
    parser.add_argument(
        "--database", default=_UNLESS_GIVEN,
        help="SQLAlchemy URL. Without it: SQLite in the home directory. With a password, better "
        "given as $AUTOSPARSE_SERVE_DATABASE.",
    )  # fmt: skip
    parser.add_argument(
        "--artifacts", default=_UNLESS_GIVEN,
        help="Where delivered files are kept, as fsspec spells it: s3://BUCKET/PREFIX. Without it: "
        "in the home directory.",
    )  # fmt: skip
    parser.add_argument(
        "--own-home", action="store_true", default=_UNLESS_GIVEN,
        help="The home is this server's alone: keep uploads and jobs' files in the store of "
        "--artifacts, too, so that servers of one --database need no shared disk.",
    )  # fmt: skip
    parser.add_argument(
        "--device", default=_UNLESS_GIVEN,
        help="Name of the device whose measurement lane is held. Without it: this machine's name.",
    )  # fmt: skip
    parser.add_argument(
        "--device-network", dest="device_networks", action="append", default=_UNLESS_GIVEN,
        metavar="NETWORK",
        help="Network that devices may join from with `autosparse agent --join`: 10.1.0.0/16. "
        "May be repeated. Without it: none may.",
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=float, default=_UNLESS_GIVEN,
        help="Remove jobs that ended so many days ago, unless they are kept or a schedule needs "
        "them. Without it: never.",
    )  # fmt: skip
    _add_workers(parser)
    _add_listeners(parser)
    parser.add_argument(
        "--no-keys", dest="keys", action="store_false", default=_UNLESS_GIVEN,
        help="Ask for no keys; on loopback only.",
    )  # fmt: skip
    parser.add_argument(
        "--new-key", action="store_true", help="Make another key for everything, and print it."
    )
    parser.add_argument(
        "--no-runner", action="store_true", help="Only answer requests; run no jobs here."
    )
    parser.add_argument(
        "--json", action="store_true", help="Print the address and a new key as JSON."
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    """How many processes work at a job."""
    parser.add_argument(
        "--workers", type=int, default=_UNLESS_GIVEN, metavar="N",
        help="Processes that compress layers and evaluate candidates of a search, on Ray. Without "
        "it: 0, all of a job in one process.",
    )  # fmt: skip
    parser.add_argument(
        "--ray-address", default=_UNLESS_GIVEN, metavar="ADDRESS",
        help="Ray cluster that jobs join for their workers: 10.0.0.1:6379. Without it, each job "
        "starts Ray on this machine.",
    )  # fmt: skip


def _add_listeners(parser: argparse.ArgumentParser) -> None:
    """Who is told of jobs."""
    parser.add_argument(
        "--webhook-network", dest="webhook_networks", action="append", default=_UNLESS_GIVEN,
        metavar="NETWORK",
        help="Network that webhooks may reach though it is not public: 10.1.0.0/16. May be "
        "repeated.",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow-tracking-uri", default=_UNLESS_GIVEN, metavar="URI",
        help="MLflow tracking server that is told of every job: http://HOST:PORT. Without it: "
        "none.",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow-experiment", default=_UNLESS_GIVEN, metavar="NAME",
        help="Experiment of the runs there. Without it: autosparse.",
    )  # fmt: skip


def given_settings(arguments: argparse.Namespace, environment: Mapping[str, str]) -> ServerSettings:
    """The server's settings: from the command line, else the environment, else their defaults.

    Raises:
        ConfigError: a value is wrong, or a variable sets nothing.
    """
    from api.settings import ServerSettings, read_settings, settings_in

    named = {k: v for k, v in vars(arguments).items() if k in ServerSettings.model_fields}
    return read_settings({**settings_in(environment), **named})


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    try:
        from api.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise NotInstalledError(
            f"the service needs the package {error.name!r}, which is not installed",
            hint="pip install 'autosparse[service]'",
        ) from error
    settings = given_settings(arguments, os.environ)
    if not settings.is_loopback:
        sys.stderr.write(
            f"warning: {settings.host} can be reached from other machines, and keys travel in the "
            "clear: put a proxy with TLS in front\n"
        )
    announce = _print_document if arguments.json else _announce
    serve(settings, new_key=arguments.new_key, runner=not arguments.no_runner, ready=announce)
    return 0


def _announce(address: str, key: NewKey | None) -> None:
    out = console()
    if key is not None:
        out.print("A key for everything. It is not shown again:", markup=False)
        out.print(f"  export AUTOSPARSE_KEY={key.key}", markup=False)
    out.print(f"Listening on {address}", markup=False)
    sys.stdout.flush()


def _print_document(address: str, key: NewKey | None) -> None:
    print_json({"address": address, "key": None if key is None else key.key})
    sys.stdout.flush()
