"""Rows of the `job` benchmark that are about no single cell: verdicts, memory, and the tally."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import greedy_mix, toolkit_int8
from benchmarks.job_cells import Cell
from benchmarks.memory import SampledRun
from benchmarks.model_files import ModelFiles
from benchmarks.rows import Row, ratio_of
from benchmarks.verdicts import Outcome, Tally

_GIB = 1 << 30
_MOST_TIMES_GIVEN = 3
_FIRST_MINUTES = 300.0


def verdict_row(name: str, seconds: float, environment: str) -> Row:
    """How long it takes to be told that a budget cannot be met, from the command to its exit."""
    return Row(
        what=f"{name}: until the verdict that a budget is out of reach", figure=seconds,
        unit="s", bar=f"<= {_FIRST_MINUTES:g} s", holds=seconds <= _FIRST_MINUTES,
        environment=environment, note="with the nearest offers, and a bundle of the nearest file",
    )  # fmt: skip


def memory_row(what: str, files: ModelFiles, run: SampledRun, environment: str) -> Row:
    """Proportional set size of the whole process tree against what the job was given."""
    most = _MOST_TIMES_GIVEN * files.given_bytes + _GIB
    return Row(
        what=what, figure=run.peak_bytes / _GIB, unit="GiB",
        opponent="3 x (model + data) + 1 GiB", opponent_figure=most / _GIB,
        ratio=ratio_of(run.peak_bytes, most), bar="ratio <= 1", holds=run.peak_bytes <= most,
        environment=environment,
        note=f"peak of the proportional set size over all processes; {run.seconds:.0f} s, given "
        f"{files.given_bytes / 1e6:.1f} MB, exit code {run.exit_code}",
    )  # fmt: skip


def summary_rows(cells: Sequence[Cell], environment: str, *, is_whole: bool) -> Iterator[Row]:
    """What all cells together come to.

    Args:
        cells: those that are there.
        environment: that they were measured in.
        is_whole: whether none is left: bars are held against all cells, not against some.
    """
    for row in _summary(cells, environment):
        yield row if is_whole else row.model_copy(update={"holds": None})


def _summary(cells: Sequence[Cell], environment: str) -> Iterator[Row]:
    for opponent in (greedy_mix.NAME, toolkit_int8.NAME):
        outcomes = [c.outcomes[opponent] for c in cells if opponent in c.outcomes]
        if outcomes:
            yield from tally_rows(opponent, outcomes, environment)
        drops = [c.drops[opponent] for c in cells if opponent in c.drops]
        if drops:
            yield from drop_tally_rows(opponent, drops, environment)
    verified = [c.verifies for c in cells if c.verifies is not None]
    if verified:
        yield Row(
            what="all cells: bundles that verify again", figure=sum(verified),
            unit=f"of {len(verified)}", bar="all", holds=all(verified), environment=environment,
        )  # fmt: skip


def tally_rows(opponent: str, outcomes: Sequence[Outcome], environment: str) -> Iterator[Row]:
    """Cells that are better by their divergence, and cells that are worse, beyond the interval."""
    tally = Tally.of(outcomes)
    yield Row(
        what="all cells: better", figure=tally.better, unit=f"of {tally.cells}",
        opponent=opponent, bar="at least half", holds=tally.mostly_better,
        environment=environment, note=_counted(outcomes),
    )  # fmt: skip
    yield Row(
        what="all cells: worse", figure=tally.losses, unit=f"of {tally.cells}",
        opponent=opponent, bar="none", holds=tally.losses == 0, environment=environment,
    )  # fmt: skip


def drop_tally_rows(opponent: str, outcomes: Sequence[Outcome], environment: str) -> Iterator[Row]:
    """Cells that lose less of the metric, which is a report, and cells that lose more.

    Where the opponent loses a tenth of a point, there is nothing to be better by.
    """
    tally = Tally.of(outcomes)
    yield Row(
        what="all cells: less of the metric lost", figure=tally.better, unit=f"of {tally.cells}",
        opponent=opponent, environment=environment, note=_counted(outcomes),
    )  # fmt: skip
    yield Row(
        what="all cells: more of the metric lost", figure=tally.losses, unit=f"of {tally.cells}",
        opponent=opponent, bar="none", holds=tally.losses == 0, environment=environment,
    )  # fmt: skip


def _counted(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(f"{o.value} {outcomes.count(o)}" for o in dict.fromkeys(outcomes))
