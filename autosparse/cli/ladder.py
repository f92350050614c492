"""`autosparse optimize` for several targets or budgets: all of them, and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

from autosparse.artifacts.ladder_page import LADDER_PAGE, LadderRow
from autosparse.cli.interruption import answering_on_interrupt
from autosparse.cli.terminal import TerminalProgress, console, drop_text, print_json, print_table
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.ladder import Ladder
from workers.local import run_all


def ladder_of(
    configs: Sequence[JobConfig], progress: TerminalProgress, *, resume: bool, as_json: bool
) -> int:
    """Run a job for each configuration; the exit code is the worst of theirs."""
    answer_now = Event()
    try:
        with answering_on_interrupt(answer_now, progress):
            ladder = run_all(configs, progress, resume=resume, answer_now=answer_now)
    finally:
        progress.close()
    if as_json:
        print_json(ladder.listing.model_dump(mode="json"))
    else:
        _print(ladder)
    return ladder.exit_code


def _print(ladder: Ladder) -> None:
    columns = ("job", "verdict", "latency", "of the baseline", "drop")
    print_table(str(ladder.directory), columns, [_cells(row) for row in ladder.listing.jobs])
    console().print(f"page: {ladder.directory / LADDER_PAGE}", markup=False)


def _cells(row: LadderRow) -> tuple[str, ...]:
    if row.latency_seconds is None or row.metric is None:
        return row.name, row.error, "", "", ""
    return (
        row.name, str(row.verdict), f"{row.latency_seconds * 1e3:.3f} ms ({row.percentile})",
        f"{row.ratio:.1%}", drop_text(row.drop, row.metric),
    )  # fmt: skip
