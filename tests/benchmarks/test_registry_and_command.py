"""The registry, and the command line around a benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks
from autosparse.registry import Registry
from benchmarks import BENCHMARKS, command
from benchmarks.benchmark import Request
from benchmarks.job_models import FULL, MODELS, QUICK
from benchmarks.rows import Row, failed_row


class TwoRows:
    """A benchmark that measures nothing."""

    summary = "two rows"

    def rows(self, request: Request) -> Iterator[Row]:
        yield Row(what="first", figure=1.0 if request.quick else 2.0, environment="e")
        if request.models:
            yield failed_row("second", "asked for", "e")


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry("benchmark", {"two": f"{__name__}:TwoRows"}, TwoRows, "no.such.group")
    monkeypatch.setattr(command, "BENCHMARKS", registry)


@pytest.mark.parametrize("name", BENCHMARKS.names())
def test_every_registered_benchmark_loads(name: str) -> None:
    assert BENCHMARKS.load(name).summary
    assert benchmarks.BENCHMARKS is BENCHMARKS


def test_an_unknown_name_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["jobs"]) == 2
    assert "known: job" in capsys.readouterr().err


@pytest.mark.usefixtures("two_rows")
def test_rows_are_printed_as_they_come_and_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    assert command.run(["two", "--quick", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert "first | 1" in printed.err
    assert printed.out.startswith("what")
    document = json.loads(file.read_text())
    assert (document["benchmark"], document["quick"]) == ("two", True)
    assert [row["what"] for row in document["rows"]] == ["first"]
    assert Row.model_validate(document["rows"][0]).figure == 1.0
    assert len(document["environments"]) == 1


@pytest.mark.usefixtures("two_rows")
def test_a_missed_bar_is_an_exit_code(tmp_path: Path) -> None:
    assert command.run(["two", "--model", "any", "--directory", str(tmp_path)]) == 1


def test_the_quick_run_is_a_part_of_the_full_one() -> None:
    assert set(QUICK.models) <= set(FULL.models) == set(MODELS)
    assert set(QUICK.budgets) <= set(FULL.budgets)
    assert QUICK.deadline_seconds < 300
