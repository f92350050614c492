"""`autosparse schedule`: what a service does again and again."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

from autosparse.cli.flags import add_config_flags, given_fields
from autosparse.cli.service_access import add_server_flag, client_of, when
from autosparse.cli.terminal import console, print_json, print_table
from autosparse.client.client import Client
from autosparse.client.records import Record
from autosparse.client.schedule_records import RunInfo, ScheduleInfo
from autosparse.errors import ConfigError
from autosparse.pipeline.config import ProfileConfig, read_config, read_profile_config

# Where a job keeps its files is the service's to decide; an atlas is always made, and anew.
_NOT_ASKED = {"output_dir", "schema_version", "atlas", "fresh"}
_ACTIONS = {
    "search": "search again and again",
    "reverify": "measure a delivered bundle again and again",
    "refresh-atlas": "measure an atlas again and again",
    "list": "list the schedules",
    "runs": "list the runs of a schedule, with what changed from one to the next",
    "run": "let a schedule run once now",
    "pause": "begin no further run",
    "resume": "go on from now",
    "delete": "remove a schedule with its history",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One set of flags for each action."""
    parser.epilog = "Every action takes --server and --json; ACTION --help tells the rest."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = {name: actions.add_parser(name, help=told) for name, told in _ACTIONS.items()}
    add_config_flags(parsers["search"])
    add_config_flags(parsers["refresh-atlas"], ProfileConfig)
    parsers["reverify"].add_argument("job", help="Id of the job that delivered the bundle.")
    parsers["reverify"].add_argument(
        "--tolerance", type=float, default=0.1,
        help="How much slower than when it was delivered is no regression, as a fraction.",
    )  # fmt: skip
    for name in ("search", "reverify", "refresh-atlas"):
        _add_times(parsers[name])
    for name in ("runs", "run", "pause", "resume", "delete"):
        parsers[name].add_argument("schedule", help="Id of the schedule.")
    parsers["runs"].add_argument("--limit", type=int, default=20, help="Most runs, newest first.")
    for each in parsers.values():
        add_server_flag(each)
        each.add_argument("--json", action="store_true", help="Print the answer as JSON.")


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cron", required=True,
        help='Minute, hour, day of month, month, day of week: "0 3 * * MON".',
    )  # fmt: skip
    parser.add_argument("--time-zone", default="UTC", help="For example Europe/Berlin.")
    parser.add_argument("--name", default="", help="Name of the schedule, for people.")
    parser.add_argument(
        "--missed", choices=("skip", "once", "all"), default="once",
        help="What is done about times that passed while the service was down.",
    )  # fmt: skip
    parser.add_argument(
        "--overlap", choices=("skip", "queue", "replace"), default="skip",
        help="What is done where the former run has not ended.",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Do one of the actions."""
    with client_of(arguments) as client:
        found = _DO[arguments.action](client, arguments)
    if arguments.json:
        many = [item.model_dump(mode="json") for item in found]
        print_json(many if arguments.action in ("list", "runs") else many[0] if many else None)
    elif arguments.action == "runs":
        _print_runs([item for item in found if isinstance(item, RunInfo)])
    elif arguments.action == "run":
        console().print(f"begun: {found[0].model_dump()['id']}", markup=False)
    elif arguments.action == "delete":
        console().print(f"deleted: {arguments.schedule}", markup=False)
    else:
        _print_schedules([item for item in found if isinstance(item, ScheduleInfo)])
    return 0


def _search(client: Client, arguments: argparse.Namespace) -> list[Record]:
    config = read_config(given_fields(arguments))
    fields = config.model_dump(mode="json", exclude_unset=True)
    return [_made(client, arguments, "search", fields)]


def _refresh_atlas(client: Client, arguments: argparse.Namespace) -> list[Record]:
    given = given_fields(arguments, ProfileConfig)
    config = read_profile_config({**given, "atlas": True})
    fields = config.model_dump(mode="json", exclude_unset=True)
    return [_made(client, arguments, "refresh_atlas", fields)]


def _reverify(client: Client, arguments: argparse.Namespace) -> list[Record]:
    fields = {"job": arguments.job, "tolerance": arguments.tolerance}
    return [_made(client, arguments, "reverify", fields)]


def _made(
    client: Client, arguments: argparse.Namespace, kind: str, fields: dict[str, Any]
) -> ScheduleInfo:
    if "output_dir" in fields:
        raise ConfigError("--output-dir is the service's to decide", hint="leave it away")
    request = {name: value for name, value in fields.items() if name not in _NOT_ASKED}
    return client.schedules.make(
        kind, arguments.cron, request, time_zone=arguments.time_zone, name=arguments.name,
        missed=arguments.missed, overlap=arguments.overlap,
    )  # fmt: skip


def _delete(client: Client, arguments: argparse.Namespace) -> list[Record]:
    client.schedules.delete(arguments.schedule)
    return []


_DO: dict[str, Callable[[Client, argparse.Namespace], list[Record]]] = {
    "search": _search,
    "reverify": _reverify,
    "refresh-atlas": _refresh_atlas,
    "list": lambda client, _: list(client.schedules.list()),
    "runs": lambda client, asked: list(
        itertools.islice(client.schedules.runs(asked.schedule), max(asked.limit, 0))
    ),
    "run": lambda client, asked: [client.schedules.run(asked.schedule)],
    "pause": lambda client, asked: [client.schedules.pause(asked.schedule)],
    "resume": lambda client, asked: [client.schedules.resume(asked.schedule)],
    "delete": _delete,
}


def _print_schedules(found: list[ScheduleInfo]) -> None:
    rows = [
        (one.id, one.name, one.kind, f"{one.cron} {one.time_zone}",
         "paused" if one.paused else when(one.next_due))
        for one in found
    ]  # fmt: skip
    print_table("schedules", ("id", "name", "kind", "cron", "next"), rows)


def _print_runs(found: list[RunInfo]) -> None:
    rows = [
        (one.id, when(one.due), one.state, one.job or "-", _told(one), _changed(one))
        for one in found
    ]
    print_table("runs", ("id", "due", "state", "job", "found", "changed"), rows)


def _told(run: RunInfo) -> str:
    if run.problem is not None:
        return run.problem.detail
    outcome = run.outcome or {}
    if outcome.get("regressions"):
        return "; ".join(outcome["regressions"])
    ratio = outcome.get("latency_ratio")
    told = [str(outcome.get("verdict") or ""), "" if ratio is None else f"{ratio:.1%}"]
    return " ".join(part for part in told if part) or str(outcome.get("summary") or run.reason)


def _changed(run: RunInfo) -> str:
    found = run.difference
    if found is None:
        return ""
    told = [] if found.latency is None else [f"latency {found.latency:+.1%}"]
    told += [] if not found.drop else [f"drop {found.drop:+.4g}"]
    told += ["verdict"] if found.verdict_changed else []
    told += ["recipe"] if found.recipe_changed else []
    told += ["environment"] if found.environment_changed else []
    told += [f"{family} {old} -> {new}" for family, (old, new) in found.break_even.items()]
    return ", ".join(told)
