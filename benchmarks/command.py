"""The command line: run one benchmark, print its rows as they come, and the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from autosparse.errors import AutoSparseError
from autosparse.evaluation import read_environment
from benchmarks import BENCHMARKS
from benchmarks.benchmark import InParts, Request
from benchmarks.engine_server import OPENERS
from benchmarks.rows import Row, all_hold
from benchmarks.table import render_line, render_table

_ROOT = Path(__file__).resolve().parent.parent


def run(argv: Sequence[str]) -> int:
    """Run one benchmark.

    Returns:
        0 where every bar is met, 1 where one is missed, 2 for bad input.
    """
    arguments = _parse(argv)
    try:
        benchmark = BENCHMARKS.load(arguments.name)
    except AutoSparseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    reason = _why_not_in_parts(arguments, has_parts=isinstance(benchmark, InParts))
    if reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = arguments.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        request = Request(
            quick=arguments.quick,
            assets=arguments.assets.absolute(),
            directory=directory.absolute(),
            models=tuple(arguments.model),
            parts=tuple(arguments.part),
            minutes=arguments.minutes,
            opponents=dict(arguments.opponent_python),
        )
        for row in benchmark.rows(request):
            rows.append(row)
            request.say(render_line(row))
            if arguments.json is not None:
                write_document(arguments.json, arguments.name, quick=request.quick, rows=rows)
        request.say(f"{len(rows)} rows")
    print(render_table(rows), end="")
    return 0 if all_hold(rows) else 1


def write_document(path: Path, name: str, *, quick: bool, rows: Sequence[Row]) -> None:
    """Write all rows so far, whole or not at all, and the environment that their id names."""
    environment = read_environment()
    document = {
        "benchmark": name,
        "quick": quick,
        "environments": {environment.id: environment.model_dump(mode="json")},
        "rows": [row.model_dump(mode="json") for row in rows],
    }
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what the project claims, here and now.",
    )
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS.names())}")
    parser.add_argument(
        "--quick", action="store_true", help="less of everything: five minutes on two quiet cores"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument(
        "--assets", type=Path, metavar="DIR", default=_ROOT.parent / "shared",
        help="folder that holds models/ and data/; what is missing there is skipped and said",
    )  # fmt: skip
    parser.add_argument(
        "--directory", type=Path, metavar="DIR",
        help="keep the files of the run there; without it they are removed at the end",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL",
        help="run this model, or group of shapes, only; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--part", action="append", default=[], metavar="PATTERN",
        help="run parts with such names only, as a shell matches them; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, metavar="N",
        help="begin no part after so many minutes; the same command with the same --directory "
        "goes on from there",
    )  # fmt: skip
    parser.add_argument(
        "--opponent-python", action="append", default=[], metavar="ENGINE=PATH",
        type=_opponent,
        help=f"compare with another engine ({', '.join(OPENERS)}), by the Python that has it",
    )  # fmt: skip
    return parser.parse_args(argv)


def _why_not_in_parts(arguments: argparse.Namespace, *, has_parts: bool) -> str:
    """What is wrong with asking for parts; empty where nothing is, or nobody asks."""
    if not arguments.part and arguments.minutes is None:
        return ""
    if not has_parts:
        return f"{arguments.name} is not run in parts: leave --part and --minutes away"
    if arguments.directory is None:
        return "--part and --minutes need --directory: what parts come to is kept there"
    return ""


def _opponent(text: str) -> tuple[str, Path]:
    """Read `ENGINE=PATH`."""
    engine, _, path = text.partition("=")
    if engine not in OPENERS:
        raise argparse.ArgumentTypeError(f"no engine {engine!r}; known: {', '.join(OPENERS)}")
    # not resolved: a virtual environment's interpreter is a link, and its place says what it has
    python = Path(path).absolute()
    if not python.is_file():
        raise argparse.ArgumentTypeError(f"there is no interpreter {path!r}")
    return engine, python
