"""`job`: the whole product against INT8 everywhere and a greedy mix, on rows that nobody saw.

For every model and budget: is what is delivered nearer to the dense model than what the same
latency gives elsewhere, does it hold when it is verified again, is the latency predictor right,
and what do a score and a whole job cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from autosparse.evaluation import read_environment
from autosparse.pipeline.verification import VERIFY_TIMING
from benchmarks import greedy_mix, toolkit_int8
from benchmarks.benchmark import Request
from benchmarks.greedy_mix import build_ladder
from benchmarks.guarded import guarded_rows
from benchmarks.job_cells import Arena, Cell, run_cell, unreachable_cell
from benchmarks.job_models import FULL, MODELS, QUICK, Scale
from benchmarks.memory import SampledRun
from benchmarks.model_files import ModelFiles, ModelRequest, UnavailableError
from benchmarks.opened_job import OpenedJob, opened_job
from benchmarks.patience import latency_ratios
from benchmarks.predictor_rows import SCORED_MODEL, predictor_rows, scoring_row
from benchmarks.product_jobs import FASTEST_MARGIN, BaseJob, run_base_job, run_command
from benchmarks.rows import Row, ratio_of, skipped_row
from benchmarks.toolkit_int8 import quantize_everywhere
from benchmarks.verdicts import Outcome, Tally

_GIB = 1 << 30
_MOST_TIMES_GIVEN = 3
_WHOLE_JOB_BUDGET = "60%"
_FIRST_MINUTES = 300.0


class JobBenchmark:
    """Every model at every budget."""

    summary = "what a job delivers, against INT8 everywhere and a greedy INT8/fp32 mix"

    def rows(self, request: Request) -> Iterator[Row]:
        """Measure model after model; a model that fails is a row, and the next one runs."""
        run = JobRun(request, QUICK if request.quick else FULL)
        for name in request.models or run.scale.models:
            yield from run.guarded(name, partial(run.model_rows, name))
        yield from run.summary_rows()


@dataclass
class JobRun:
    """One run, and the cells it has seen so far."""

    request: Request
    scale: Scale
    cells: list[Cell] = field(default_factory=list)
    environment: str = field(default_factory=lambda: read_environment().id)

    def guarded(self, what: str, make: Callable[[], Iterable[Row]]) -> Iterator[Row]:
        """The rows of `make`, and a row with the reason where it ends early."""
        return guarded_rows(self.request, self.environment, what, make)

    def model_rows(self, name: str) -> Iterator[Row]:
        """Everything about one model."""
        if name not in MODELS:
            raise UnavailableError(f"no such model; known: {', '.join(MODELS)}")
        source, directory = MODELS[name], self.request.directory / name
        directory.mkdir(parents=True)
        self.request.say(f"{name}: model and data")
        sizes = self.scale.sizes or source.sizes
        files = source.build(ModelRequest(self.request.assets, directory / "given", sizes))
        self.request.say(f"{name}: how fast does it get?")
        base = run_base_job(files, self.scale, directory)
        yield verdict_row(name, base.verdict_run.seconds, self.environment)
        yield memory_row(
            f"{name}: memory of a job that builds the whole level table", files, base.table_run,
            self.environment,
        )  # fmt: skip
        with opened_job(base.output_dir) as opened:
            yield from self._opened_rows(files, base, opened, directory)
        if name in self.scale.whole_job_memory:
            what = f"{name}: memory of a whole job"
            yield from self.guarded(what, lambda: [self._whole_job(what, files, directory)])

    def _opened_rows(
        self, files: ModelFiles, base: BaseJob, opened: OpenedJob, directory: Path
    ) -> Iterator[Row]:
        name = files.name
        self.request.say(f"{name}: predictor and scoring")
        predicted = partial(predictor_rows, opened, name, self.scale.unseen_recipes)
        yield from self.guarded(f"{name}: predictor", predicted)
        if name == SCORED_MODEL:
            yield from self.guarded(f"{name}: scoring", lambda: [scoring_row(opened, name)])
        self.request.say(f"{name}: opponents")
        arena = Arena(
            files=files, scale=self.scale, base=base, opened=opened,
            ladder=build_ladder(opened, directory / "mix"),
            int8=quantize_everywhere(
                files.onnx, opened.job.calibration, files.toolkit_operators, directory / "int8"
            ),
            say=self.request.say,
        )  # fmt: skip
        for title, budget in {**self._budgets(arena), "fastest": None}.items():
            what = f"{name} at {title}"
            yield from self.guarded(what, partial(self._cell, arena, budget, what))

    def _budgets(self, arena: Arena) -> dict[str, str | None]:
        """The budgets that are asked for, and the latency that INT8 everywhere has."""
        budgets: dict[str, str | None] = {budget: budget for budget in self.scale.budgets}
        timed = latency_ratios(arena.opened.job, {"int8": arena.int8}, VERIFY_TIMING, fresh=True)
        if timed["int8"] < 1.0:
            same = f"{100 * timed['int8']:.1f}%"
            budgets[f"INT8's latency, {same}"] = same
        return budgets

    def _cell(self, arena: Arena, budget: str | None, title: str) -> Iterator[Row]:
        """One cell; `None` asks for the fastest budget that can be met."""
        if self.request.elapsed() > self.scale.deadline_seconds:
            yield skipped_row(title, "the time of this run is over", self.environment)
            return
        reach = arena.base.fastest_ratio
        if budget is not None and reach > float(budget.rstrip("%")) / 100:
            cell = unreachable_cell(arena, budget, title)
        else:
            fastest = f"{min(100 * reach * FASTEST_MARGIN, 100):.1f}%"
            cell = run_cell(arena, budget or fastest, title)
        self.cells.append(cell)
        yield from cell.rows

    def _whole_job(self, what: str, files: ModelFiles, directory: Path) -> Row:
        run = run_command(
            files, self.scale, _WHOLE_JOB_BUDGET, directory / "job-whole",
            self.scale.search_seconds,
        )  # fmt: skip
        return memory_row(what, files, run, self.environment)

    def summary_rows(self) -> Iterator[Row]:
        """What all cells together come to."""
        for opponent in (greedy_mix.NAME, toolkit_int8.NAME):
            outcomes = [c.outcomes[opponent] for c in self.cells if opponent in c.outcomes]
            if outcomes:
                yield from tally_rows(opponent, outcomes, self.environment)
        verified = [c.verifies for c in self.cells if c.verifies is not None]
        if verified:
            yield Row(
                what="all cells: bundles that verify again", figure=sum(verified),
                unit=f"of {len(verified)}", bar="all", holds=all(verified),
                environment=self.environment,
            )  # fmt: skip


def tally_rows(opponent: str, outcomes: list[Outcome], environment: str) -> Iterator[Row]:
    """Cells that are better, and cells that are worse, beyond the interval."""
    tally = Tally.of(outcomes)
    each = ", ".join(f"{o.value} {outcomes.count(o)}" for o in dict.fromkeys(outcomes))
    yield Row(
        what="all cells: better", figure=tally.better, unit=f"of {tally.cells}",
        opponent=opponent, bar="at least half", holds=tally.mostly_better,
        environment=environment, note=each,
    )  # fmt: skip
    yield Row(
        what="all cells: worse", figure=tally.losses, unit=f"of {tally.cells}",
        opponent=opponent, bar="none", holds=tally.losses == 0, environment=environment,
    )  # fmt: skip


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
