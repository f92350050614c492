"""`--backend auto`: a job on every backend, and the better answer is what is delivered.

Each job is a whole one in a directory of its own, so that it can be resumed, resolved and looked
at like any other; what they come to is held against each other by the gate's rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from autosparse.artifacts.bundle import REPORT_FILE, copy_bundle
from autosparse.artifacts.manifest import Decision
from autosparse.artifacts.report import render_report
from autosparse.errors import AutoSparseError
from autosparse.evaluation import Evidence, Verdict
from autosparse.evaluation.gate import best_effort, rank
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import Result, run_job
from autosparse.pipeline.progress import Progress
from autosparse.pipeline.workspace import Workspace, check_room_for_jobs

EnginesOn = Callable[[JobConfig], AbstractContextManager[Engines]]
"""What runs the job of one backend."""
_MILDEST_FIRST = (
    (Verdict.MET, Verdict.SIMULATED),
    (Verdict.NOT_FOUND,),
    (Verdict.LATENCY_INFEASIBLE,),
)
"""A budget is out of reach only where it is for every backend."""


def run_on_every_backend(
    config: JobConfig, backends: Sequence[str], engines_on: EnginesOn, progress: Progress,
    *, resume: bool = False, clock: Callable[[], float] = time.monotonic,
) -> Result:  # fmt: skip
    """Run a job on each backend, in OUTPUT_DIR/NAME, and put the better bundle in OUTPUT_DIR.

    What is left of the time limit is shared equally by those that are still to come. The one that
    is named last begins, and the first, which every installation has, gets what the others leave:
    one that is refused takes no time from it.

    Args:
        config: what is asked.
        backends: their names; of equal answers, that of the one that is named first is taken.
        engines_on: what runs the job of one of them.
        progress: told what happens.
        resume: continue the jobs in the output directory.
        clock: seconds from any point on.

    Raises:
        AutoSparseError: no backend gave an answer; this is what the one named first said.
        StorageError: the output directory holds something else.
    """
    root = config.output_dir.absolute()
    check_room_for_jobs(root, resume=resume, single="one backend")
    answers: dict[str, Result | AutoSparseError] = {}
    left = config.time_limit
    for to_come, name in reversed(list(enumerate(backends, start=1))):
        fields = {"backend": name, "output_dir": root / name, "time_limit": left / to_come}
        own = config.model_copy(update=fields)
        began = clock()
        progress.stage("backend", name)
        try:
            with engines_on(own) as engines:
                answers[name] = run_job(own, engines, resume=resume and own.output_dir.exists())
        except AutoSparseError as error:
            progress.note(f"no answer on {name}: {error}")
            answers[name] = error
        # what a job takes beyond its share, to verify and deliver, is not the others' loss
        left -= min(clock() - began, own.time_limit)
    named = [(name, answers[name]) for name in backends]
    found = {name: answer for name, answer in named if isinstance(answer, Result)}
    refused = {name: answer for name, answer in named if isinstance(answer, AutoSparseError)}
    if not found:
        with suppress(OSError):  # what is in there is somebody's
            root.rmdir()
        raise next(iter(refused.values()))
    best = best_answer(list(found.values()))
    name = next(name for name, result in found.items() if result is best)
    told = f"{name}: {_told(found, refused)}"
    progress.note(f"the answer is that of {told}")
    return _delivered(best, root / "bundle", Decision(subject="Backend", told=told))


def _delivered(best: Result, directory: Path, decision: Decision) -> Result:
    """A copy of the better bundle that tells of the other backends, too."""
    decisions = (*best.manifest.decisions, decision)
    shown = best.report.manifest.model_copy(update={"decisions": decisions})
    report = best.report.model_copy(update={"manifest": shown})
    texts = {REPORT_FILE: render_report(report)}
    manifest = copy_bundle(Path(best.bundle), directory, texts, shown)
    return Result(best.verdict, str(directory), manifest, report)


def best_answer(results: Sequence[Result]) -> Result:
    """Of what jobs on the same model and data came to, by the rule that ranks the files of one.

    Latencies are those of the verifying runs, each against the model as it came; quality is that
    on the rows that select, since the others judge.

    Args:
        results: at least one, of jobs that differ in their backend alone.
    """
    kinds = ([r for r in results if r.verdict in kind] for kind in _MILDEST_FIRST)
    pool = next(kind for kind in kinds if kind)
    contract = pool[0].manifest.contract
    evidence = [_evidence(result) for result in pool]
    ranked = rank(evidence, contract) if pool[0].verdict in _MILDEST_FIRST[0] else []
    best = ranked[0] if ranked else best_effort(evidence, contract) or evidence[0]
    return next(result for result, own in zip(pool, evidence, strict=True) if own is best)


def _evidence(result: Result) -> Evidence:
    """Of the delivered file: its trial, with the latency that was verified."""
    manifest = result.manifest
    workspace = Workspace(Path(result.bundle).parent)
    trials = {trial.recipe.id: trial.evidence for trial in Ledger(workspace.study).records}
    as_it_came = Evidence.of_baseline(manifest.recipe_id, manifest.contract)
    seen = as_it_came if manifest.stands_in else trials.get(manifest.recipe_id, as_it_came)
    latency = manifest.latency
    return seen.model_copy(
        update={
            "latency_ratio": latency.ratio,
            "latency_ratio_high": latency.ratio_interval.high,
        }
    )


def _told(found: Mapping[str, Result], refused: Mapping[str, AutoSparseError]) -> str:
    """Every backend's answer in a few words."""
    answers = [
        f"{name} {result.verdict} at {result.manifest.latency.ratio:.1%} of the baseline's latency"
        f" and a drop of {result.manifest.quality.drop:.3g}"
        for name, result in found.items()
    ]
    without = [f"{name} without one ({error.message})" for name, error in refused.items()]
    return ", ".join((*answers, *without))
