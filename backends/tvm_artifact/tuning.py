"""Trials for the loops that no kernel of ours covers: TVM's MetaSchedule, in this very process.

One-dimensional and transposed convolutions, products whose operands broadcast, and whatever else
Relax fuses into loops that multiply much. What is measured is kept in a database, and a loop nest
that is in there is not tried again, so that recipes which share it share its trials.

TVM's own builder and runner start processes that need a linker and half a minute of imports; a
schedule of plain loops needs neither.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.meta_schedule import relax_integration, schedule_rule
from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
from tvm.s_tir.meta_schedule.runner import EvaluatorConfig, PyRunner, PyRunnerFuture, RunnerResult
from tvm.s_tir.meta_schedule.runner.utils import alloc_argument_common, run_evaluator_common

from backends.tvm_artifact.description import ENTRY, FIXED_ENTRY

_WORTH_TRIALS = 8
"""Operations for each number that is read or written: fewer are bound by memory."""
_AT_ONCE = 16
_POPULATION = 64
_TIMED_MS = 20
_SEED = 0


def apply_best(
    module: tvm.IRModule, target: tvm.target.Target, trials: int, directory: Path
) -> tvm.IRModule:
    """Replace loops by the fastest that were found for them.

    Args:
        module: what the pipeline `zero` made: fused loops, none of them scheduled.
        target: with one core, since a layer's threads are not the loops' to take.
        trials: for each loop nest that is worth them and has none in the database.
        directory: of the database; nobody else writes there meanwhile.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock, tempfile.TemporaryDirectory() as logs:
        fcntl.flock(lock, fcntl.LOCK_EX)
        database = ms.database.JSONDatabase(work_dir=str(directory))
        tasks = [
            task
            for task in relax_integration.extract_tasks(_fixed_part(module), target)
            if _is_worth(task.dispatched[0])
            and database.query_tuning_record(task.dispatched[0], target, task.task_name) is None
        ]
        if tasks:
            _try(tasks, target, trials, database, Path(logs))
        with target, database, tvm.transform.PassContext(opt_level=3):
            return relax.transform.MetaScheduleApplyDatabase()(module)


def _fixed_part(module: tvm.IRModule) -> tvm.IRModule:
    """Without the function for any size, whose loops have no length that could be tried."""
    part = module.clone()
    if FIXED_ENTRY in part:
        del part[ENTRY]
    return part


def _is_worth(module: tvm.IRModule) -> bool:
    """Whether a loop nest of known lengths multiplies much for what it reads and writes."""
    try:
        tensors = ArgInfo.from_entry_func(module, False)
        operations = estimate_tir_flops(module)
    except (RuntimeError, TypeError, ValueError):  # a length that is free, or depends on data
        return False
    elements = sum(prod(tensor.shape) for tensor in tensors)
    return bool(operations >= _WORTH_TRIALS * elements)


def _try(
    tasks: list[Any], target: tvm.target.Target, trials: int, database: Any, logs: Path
) -> None:
    contexts, weights = relax_integration.extracted_tasks_to_tune_contexts(
        tasks, str(logs), space=_space(),
        strategy=ms.search_strategy.EvolutionarySearch(
            population_size=_POPULATION, init_min_unmeasured=min(_AT_ONCE, trials)
        ),
        num_threads=os.cpu_count() or 1, seed=_SEED,
    )  # fmt: skip
    built: dict[str, Any] = {}
    ms.tune_tasks(
        tasks=contexts, task_weights=weights, work_dir=str(logs),
        max_trials_global=trials * len(contexts), max_trials_per_task=trials,
        num_trials_per_iter=min(_AT_ONCE, trials), builder=_Builder(built),
        runner=_Runner(built), database=database,
        cost_model=ms.cost_model.RandomModel(seed=_SEED),
        measure_callbacks=[ms.measure_callback.AddToDatabase()],
        task_scheduler="round-robin",
    )  # fmt: skip


def _space() -> Any:
    """TVM's rules for processors, without loops that take threads of their own."""
    rules = [
        rule
        for rule in schedule_rule.ScheduleRule.create("llvm")
        if not isinstance(rule, schedule_rule.ParallelizeVectorizeUnroll)
    ]
    vectorized = schedule_rule.ParallelizeVectorizeUnroll(
        max_jobs_per_core=-1, max_vectorize_extent=64, unroll_max_steps=[0, 16, 64, 512]
    )
    # the last rule of TVM's own list places what is left; it stays the last
    return ms.space_generator.PostOrderApply(
        sch_rules=[*rules[:-1], vectorized, rules[-1]], postprocs="llvm", mutator_probs="llvm"
    )


@derived_object
class _Builder(PyBuilder):  # type: ignore[misc]
    """Compiles here, and keeps what it made under a number in place of a path."""

    def __init__(self, built: dict[str, Any]) -> None:
        super().__init__()
        self.built = built

    def build(self, build_inputs: list[Any]) -> list[Any]:
        """One result for each candidate, in order."""
        results = []
        for given in build_inputs:
            name = str(len(self.built))
            try:
                self.built[name] = tvm.compile(given.mod, target=given.target).mod
            except Exception as error:  # whatever TVM raises is an answer to this candidate alone
                results.append(BuilderResult(None, str(error)))
            else:
                results.append(BuilderResult(name, None))
        return results


@derived_object
class _Timed(PyRunnerFuture):  # type: ignore[misc]
    """A result that is there."""

    def __init__(self, seconds: list[float] | None, problem: str | None) -> None:
        super().__init__()
        self.seconds = seconds
        self.problem = problem

    def done(self) -> bool:
        """It is."""
        return True

    def result(self) -> Any:
        """Seconds of one call, or what went wrong."""
        return RunnerResult(self.seconds, self.problem)


@derived_object
class _Runner(PyRunner):  # type: ignore[misc]
    """Times here, one after the other."""

    def __init__(self, built: dict[str, Any]) -> None:
        super().__init__()
        self.built = built
        self.fill = tvm.get_global_func("tvm.contrib.random.random_fill_for_measure")
        self.timing = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=_TIMED_MS)

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        """One result for each candidate, in order."""
        return [self.time(given) for given in runner_inputs]

    def time(self, given: Any) -> Any:
        """One candidate, on numbers that are drawn."""
        device = tvm.cpu()
        try:
            shapes = [info.as_json() for info in given.args_info]
            arguments = alloc_argument_common(self.fill, device, shapes, 1)
            module = self.built.pop(given.artifact_path)
            return _Timed(run_evaluator_common(module, device, self.timing, arguments), None)
        except Exception as error:  # as above
            return _Timed(None, str(error))
