"""What a person sees while a job runs, and how results are printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from autosparse.evaluation.metrics import BUILT_IN
from autosparse.pipeline.records import TrialRecord


def console() -> Console:
    """For tables and sentences on standard output."""
    return Console(highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """One JSON document on standard output, for scripts."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; cells are data, never markup."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        # the first column is what to type: it stays whole, however narrow the terminal
        table.add_column(column, overflow="fold", no_wrap=position == 0)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console().print(table)


class TerminalProgress:
    """Stages and trials as lines on standard error, with a bar where a person watches."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._started = time.monotonic()
        self._bar: Progress | None = None

    def stage(self, name: str, detail: str = "") -> None:
        """A line for the stage."""
        self.close()
        self._say(f"[bold]{escape(name):<12}[/bold] {escape(detail)}")

    def step(self, done: int, total: int, detail: str = "") -> None:
        """A bar, only on a terminal."""
        if not self._console.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(),
                MofNCompleteColumn(), console=self._console, transient=True,
            )  # fmt: skip
            self._bar.add_task(detail, total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, description=escape(detail))
        if done >= total:
            self.close()

    def trial(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """One line: what was measured, and the best so far."""
        self.close()
        line = (
            f"trial        {record.recipe.id}  {record.latency_seconds * 1e3:8.3f} ms "
            f"({record.evidence.latency_ratio:6.1%})  "
            f"drop {drop_text(record.evidence.drop, record.quality.metric)}"
        )
        if best is not None:
            line += (
                f"   best {best.evidence.latency_ratio:6.1%}, "
                f"drop {drop_text(best.evidence.drop, best.quality.metric)}"
            )
        self._say(line)

    def note(self, text: str) -> None:
        """A remark."""
        self.close()
        self._say(f"note         {escape(text)}")

    def close(self) -> None:
        """End a bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, line: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:7.1f}s[/dim] {line}")


def drop_text(drop: float | None, metric: str) -> str:
    """A drop in points where the metric lies in [0, 1], else in the metric's own unit."""
    if drop is None:
        return "unknown"
    known = BUILT_IN.get(metric)
    if known is not None and known.in_unit_interval:
        return f"{drop * 100:+.2f}pt"
    return f"{drop:+.4g}"
