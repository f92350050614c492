"""`autosparse methods | strategies | backends | spaces`: what there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from autosparse.cli.terminal import print_json, print_table
from autosparse.errors import NotInstalledError
from autosparse.methods import METHODS
from autosparse.methods.preparations import PREPARATIONS
from autosparse.recovery import RECOVERIES
from autosparse.registry import Registry
from autosparse.search.strategies import STRATEGIES
from backends import BACKENDS
from search_spaces import load_space, names

T = TypeVar("T")
_SEED_ROW = re.compile(r"[A-Z]{2}\d+[,:]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only how to print."""
    parser.add_argument("--json", action="store_true", help="Print the list as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Print one list."""
    rows = _LISTS[arguments.command]()
    if arguments.json:
        print_json(rows)
        return 0
    columns = _PRINTED.get(arguments.command, tuple(rows[0]))
    for title, some in _tables(arguments.command, rows):
        print_table(title, columns, [tuple(str(row[column]) for column in columns) for row in some])
    return 0


def _tables(command: str, rows: list[dict[str, str]]) -> list[tuple[str, list[dict[str, str]]]]:
    """What a terminal shows: a table for each kind, with its title."""
    if command != "methods":
        return [(command, rows)]
    return [(title, [row for row in rows if row["kind"] == kind]) for kind, title in _KINDS.items()]


def seed_row(source: str) -> str:
    """The catalogue's code for what something embodies, with which its source begins: TR7, or none.

    Where a source names several, all of them.
    """
    return source.partition(":")[0] if _SEED_ROW.match(source) else ""


def _methods() -> list[dict[str, str]]:
    """What makes levels, what trains them afterwards, and what can be done before."""
    return [
        *_rows(
            METHODS,
            lambda m: {
                "kind": "level", "seed_row": seed_row(m.source), "family": m.family,
                "summary": m.summary, "needs": ", ".join(sorted(m.needs)),
                "cost": m.cost, "source": m.source,
            },
        ),
        *_rows(
            RECOVERIES,
            lambda r: {
                "kind": "recovery", "seed_row": seed_row(r.source), "family": r.family,
                "summary": r.summary, "needs": ", ".join(sorted(r.needs)),
                "cost": r.cost, "source": r.source,
            },
        ),
        *(
            {
                "name": p.name, "kind": "preparation", "seed_row": seed_row(p.source),
                "family": p.family, "summary": p.summary, "needs": p.needs, "cost": p.cost,
                "source": p.source,
            }
            for p in PREPARATIONS
        ),
    ]  # fmt: skip


def _strategies() -> list[dict[str, str]]:
    return _rows(
        STRATEGIES,
        lambda s: {"seed_row": seed_row(s.source), "summary": s.summary, "source": s.source},
    )


def _backends() -> list[dict[str, str]]:
    return _rows(BACKENDS, lambda b: {"summary": b.summary})


def _spaces() -> list[dict[str, str]]:
    rows = []
    for name in names():
        space = load_space(name)
        levels = ", ".join(str(level) for level in space.levels)
        rows.append({"name": name, "summary": space.description, "levels": levels})
    return rows


def _rows(registry: Registry[T], describe: Callable[[T], dict[str, str]]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    blank: dict[str, str] = {}
    for name in registry.names():
        try:
            described = describe(registry.load(name))
        except NotInstalledError as error:
            rows.append({"name": name, **blank, "summary": str(error)})
            continue
        blank = dict.fromkeys(described, "")
        rows.append({"name": name, **described})
    return rows


# What a terminal has room for; --json tells everything.
_PRINTED = {"methods": ("name", "seed_row", "family", "needs", "cost", "summary")}
_KINDS = {
    "level": "methods that make levels",
    "recovery": "recoveries, which train a recipe (--recover)",
    "preparation": "preparations, which rewrite the model first (--prepare)",
}
_LISTS: dict[str, Callable[[], list[dict[str, str]]]] = {
    "methods": _methods,
    "strategies": _strategies,
    "backends": _backends,
    "spaces": _spaces,
}
