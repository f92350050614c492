"""`python -m benchmarks.job_page FILE`: the rows of a `job` run as Markdown, for a page.

The file is what `--json` wrote: of a run in parts, the run that had nothing left to begin.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import greedy_mix, toolkit_int8
from benchmarks.rows import Row
from benchmarks.table import render_holds, render_number
from benchmarks.verdicts import Outcome

_CELLS = (
    "budget", "latency", "of the baseline", "verifies", "divergence", "of the mix", "of INT8",
    "points lost", "by the mix", "by INT8",
)  # fmt: skip
_OTHERS = ("what", "figure", "against", "its figure", "bar", "holds")
_DELIVERED, _DIVERGENCE, _DROP = "delivered latency, verified again", "divergence", " drop"
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def render_page(rows: Sequence[Row]) -> str:
    """A table with a line for each cell, and one of everything else."""
    cells: dict[str, list[Row]] = {}
    others: list[Row] = []
    for row in rows:
        title, _, kind = row.what.partition(": ")
        if kind in (_DELIVERED, _DIVERGENCE) or kind.endswith(_DROP):
            cells.setdefault(title, []).append(row)
        else:
            others.append(row)
    lines = [(title, *_cell(found)) for title, found in cells.items()]
    tables = [(_CELLS, lines), (_OTHERS, [_other(row) for row in others])]
    return "\n".join(render_markdown(header, body) for header, body in tables if body)


def render_markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in (header, rule, *lines))


def _escaped(text: str) -> str:
    """Text that stays in its column."""
    return " ".join(text.split()).replace("|", r"\|")


def _cell(rows: Sequence[Row]) -> Iterator[str]:
    """One cell's figures, in the order of the header."""
    kinds = [row.what.partition(": ")[2] for row in rows]
    delivered = [row for row, kind in zip(rows, kinds, strict=True) if kind == _DELIVERED]
    yield from _delivery(delivered[0]) if delivered else ("", "", "")
    for end in (_DIVERGENCE, _DROP):
        found = [row for row, kind in zip(rows, kinds, strict=True) if kind.endswith(end)]
        yield render_number(found[0].figure) if found else ""
        for opponent in (greedy_mix.NAME, toolkit_int8.NAME):
            # a step of the mix is named with its size
            yield "; ".join(_theirs(row) for row in found if row.opponent.startswith(opponent))


def _delivery(row: Row) -> tuple[str, str, str]:
    """Latency, its share of the baseline's, and whether the bundle held."""
    return _figure(row), f"{render_number(100 * (row.ratio or 0))} %", render_holds(row.holds)


def _theirs(row: Row) -> str:
    """An opponent's figure, and how it ended for us."""
    outcome = row.note.partition(":")[0]
    words = [render_number(row.opponent_figure), outcome if outcome in _OUTCOMES else ""]
    return ", ".join(word for word in words if word)


def _other(row: Row) -> tuple[str, ...]:
    told = row.note if row.figure is None else _figure(row)
    return (
        row.what, told, row.opponent, render_number(row.opponent_figure), row.bar,
        render_holds(row.holds) if row.bar or row.holds is not None else "",
    )  # fmt: skip


def _figure(row: Row) -> str:
    return f"{render_number(row.figure)} {row.unit}".rstrip()


def _told_of(environments: Mapping[str, Mapping[str, object]]) -> str:
    """What the figures were measured on."""
    return "".join(
        f"Measured on {one['cpu']}, {one['cores']} cores, {one['system']}.\n\n"
        for one in environments.values()
    )


def main(argv: Sequence[str]) -> int:
    """Print the page of one file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job_page", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="what --json of a job run wrote")
    document = json.loads(parser.parse_args(argv).file.read_text(encoding="utf-8"))
    rows = [Row.model_validate(row) for row in document["rows"]]
    print(_told_of(document["environments"]) + render_page(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
