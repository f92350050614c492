"""`autosparse uploads`: what a service holds of models, datasets and targets."""

from __future__ import annotations

import argparse

from autosparse.cli.service_access import add_server_flag, client_of, delete_each, when
from autosparse.cli.terminal import print_json, print_table
from autosparse.client.client import Client
from autosparse.client.records import DatasetInfo, ModelInfo, TargetInfo, UploadProgress
from autosparse.client.uploads import Uploads
from autosparse.errors import ConfigError

Part = Uploads[ModelInfo] | Uploads[DatasetInfo] | Uploads[TargetInfo] | Uploads[UploadProgress]
_ACTIONS = {
    "list": "list models, datasets and targets, with what needs each, and what is arriving",
    "delete": "remove what no job and no schedule needs",
}
_KINDS = {"mdl": "model", "dat": "dataset", "tgt": "target", "upl": "arriving"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_MOST_SHOWN = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One set of flags for each action."""
    parser.epilog = "Every action takes --server and --json; ACTION --help tells the rest."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = {name: actions.add_parser(name, help=told) for name, told in _ACTIONS.items()}
    parsers["list"].add_argument(
        "--kind", choices=tuple(_KINDS.values()),
        help="Only models, datasets or targets, or only what is sent in pieces and not there yet.",
    )  # fmt: skip
    parsers["delete"].add_argument(
        "uploads",
        nargs="+",
        metavar="upload",
        help="Id of a model, a dataset or a target, or of what is arriving.",
    )
    for each in parsers.values():
        add_server_flag(each)
        each.add_argument("--json", action="store_true", help="Print the answer as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """List them, or delete some."""
    with client_of(arguments) as client:
        if arguments.action == "list":
            _list(client, arguments)
        else:
            delete_each(arguments.uploads, lambda id_: _delete(client, id_), as_json=arguments.json)
    return 0


def _list(client: Client, arguments: argparse.Namespace) -> None:
    found = [
        one
        for kind, part in _parts(client).items()
        if arguments.kind in (None, kind)
        for one in part.list()
    ]
    found.sort(key=lambda one: one.created, reverse=True)
    if arguments.json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (one.id, _KINDS[one.id.partition("_")[0]], one.name,
         "-" if isinstance(one, TargetInfo) else _size(one.size_bytes), when(one.created),
         _state(one))
        for one in found
    ]  # fmt: skip
    print_table("uploads", ("id", "kind", "name", "size", "uploaded", "needed by"), rows)


def _delete(client: Client, id_: str) -> None:
    kind = _KINDS.get(id_.partition("_")[0])
    if kind is None:
        raise ConfigError(
            f"{id_!r} is no id of an upload", hint="`autosparse uploads list` prints them"
        )
    _parts(client)[kind].delete(id_)


def _parts(client: Client) -> dict[str, Part]:
    return {
        "model": client.models, "dataset": client.datasets, "target": client.targets,
        "arriving": client.arriving,
    }  # fmt: skip


def _size(size_bytes: int) -> str:
    """Bytes in the largest unit that gives a number over 1."""
    size, step = float(size_bytes), 0
    while size >= 1024 and step + 1 < len(_UNITS):
        size, step = size / 1024, step + 1
    return f"{size:.1f} {_UNITS[step]}" if step else f"{size_bytes} B"


def _state(one: ModelInfo | DatasetInfo | TargetInfo | UploadProgress) -> str:
    """What needs it, some of that; of what is arriving, how much is there."""
    if isinstance(one, UploadProgress):
        return f"{_size(one.received_bytes)} have arrived"
    more = " …" if len(one.needed_by) > _MOST_SHOWN else ""
    return ", ".join(one.needed_by[:_MOST_SHOWN]) + more
