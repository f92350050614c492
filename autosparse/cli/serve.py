"""`autosparse serve`: the service on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from autosparse.cli.terminal import console, print_json
from autosparse.errors import NotInstalledError

if TYPE_CHECKING:
    from autosparse.client.records import NewKey

_SETTINGS = (
    "home",
    "host",
    "port",
    "database",
    "device",
    "artifacts",
    "keep_days",
    "webhook_networks",
    "mlflow_tracking_uri",
    "mlflow_experiment",
)
_EXTRA = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "prometheus_client", "cronsim", "fsspec")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, and where to keep things."""
    parser.add_argument(
        "--home", type=Path, default=Path("autosparse-service"),
        help="Directory of the database, the uploads and the jobs.",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=8377, help="Port; 0 takes a free one.")
    parser.add_argument(
        "--database", default="", help="SQLAlchemy URL. Without it: SQLite in the home directory."
    )
    parser.add_argument(
        "--artifacts", default="",
        help="Where delivered files are kept, as fsspec spells it: s3://BUCKET/PREFIX. Without it: "
        "in the home directory.",
    )  # fmt: skip
    parser.add_argument(
        "--device", default=argparse.SUPPRESS,
        help="Name of the device whose measurement lane is held. Without it: this machine's name.",
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=float, default=argparse.SUPPRESS,
        help="Remove jobs that ended so many days ago, unless they are kept or a schedule needs "
        "them. Without it: never.",
    )  # fmt: skip
    parser.add_argument(
        "--webhook-network", dest="webhook_networks", action="append", default=argparse.SUPPRESS,
        metavar="NETWORK",
        help="Network that webhooks may reach though it is not public: 10.1.0.0/16. May be "
        "repeated.",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow-tracking-uri", default=argparse.SUPPRESS, metavar="URI",
        help="MLflow tracking server that is told of every job: http://HOST:PORT. Without it: "
        "none.",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow-experiment", default=argparse.SUPPRESS, metavar="NAME",
        help="Experiment of the runs there. Without it: autosparse.",
    )  # fmt: skip
    parser.add_argument("--no-keys", action="store_true", help="Ask for no keys; on loopback only.")
    parser.add_argument(
        "--new-key", action="store_true", help="Make another key for everything, and print it."
    )
    parser.add_argument(
        "--no-runner", action="store_true", help="Only answer requests; run no jobs here."
    )
    parser.add_argument(
        "--json", action="store_true", help="Print the address and a new key as JSON."
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    try:
        from api.server import serve
        from api.settings import read_settings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise NotInstalledError(
            f"the service needs the package {error.name!r}, which is not installed",
            hint="pip install 'autosparse[service]'",
        ) from error
    given = {name: getattr(arguments, name) for name in _SETTINGS if hasattr(arguments, name)}
    settings = read_settings({**given, "keys": not arguments.no_keys})
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
