"""Verification: a file is opened in a fresh process, timed against the baseline, evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from autosparse.datasets import Dataset
from autosparse.evaluation import (
    Comparison,
    Contract,
    Evidence,
    Interval,
    LoweredModel,
    Percentile,
    Quality,
)
from autosparse.evaluation.answers import Keeper
from autosparse.evaluation.quality import compare_quality, row_scores
from autosparse.evaluation.timing import TimingSettings
from autosparse.levels import Recipe
from autosparse.pipeline.closer_look import closer_look
from autosparse.pipeline.guard_rails import BothAnswers, why_no_choice
from autosparse.pipeline.job import Job
from autosparse.pipeline.records import evidence_of
from autosparse.pipeline.stopwatch import BASELINE_LABEL

VERIFY_TIMING = TimingSettings(rounds=16, block_seconds=0.04, max_seconds=30.0)
BETWEEN_PROCESSES = 0.01
"""By so much a ratio differs from one process to the next (where memory lies, what the clock does),
which the rounds of one process do not tell. `python -m benchmarks job` prints a job's ratio beside
that of its bundle verified again: of nine bundles of two models they differed by 1.1 % in the mean.
Each further run of a closer look is in a process of its own."""
_GATING, _DELIVERED = "gating", "_delivered"


@dataclass(frozen=True)
class Verified:
    """What a second look at one file found."""

    recipe: Recipe
    model: LoweredModel
    comparison: Comparison
    quality: Quality
    """On the rows that gate, which no choice was made on."""
    test_quality: Quality | None
    """On the untouched test file, where one was given. Reported only."""
    evidence: Evidence
    contract: Contract
    """The contract, resolved on the rows that gate and against the baseline of this very run: a
    budget in time is kept in time, whatever the machine was like when the job began."""
    answers: BothAnswers | None
    """To the rows that gate, where each is a choice among classes: the report looks at them one by
    one."""
    why_no_choice: str = ""
    """Why they are none; empty where they are."""
    stands_in: bool = False
    """Whether it is the model as it came, in a job for another kind of file: what is delivered
    where none of that kind is as fast, and no answer."""

    @property
    def holds(self) -> bool:
        """Whether the file may be delivered as meeting the contract."""
        return self.evidence.meets(self.contract) and not self.stands_in

    def without_answers(self) -> Verified:
        """What is worth keeping of a file that may not be delivered: answers can be large."""
        return replace(self, answers=None)


def verify_model(
    job: Job, contract: Contract, recipe: Recipe, model: LoweredModel, size_bytes: int | None
) -> Verified:
    """Measure and evaluate one file again.

    The model as it came is timed once, as baseline and candidate: beside itself it would differ by
    noise alone.

    Args:
        job: what all stages share.
        contract: what it is held against.
        recipe: what was lowered.
        model: its files.
        size_bytes: what they take on disk; None where that is not known.

    Raises:
        CandidateError: the file does not open, does not run, or cannot be timed.
    """
    as_it_came = _is_original(job, recipe, model)
    comparison = _timed(job, recipe, model, VERIFY_TIMING.rounds)
    looked_at = None if as_it_came else model
    gate = _judged(job, looked_at, job.gating, _GATING, keeps=True)
    test = None if job.test is None else _judged(job, looked_at, job.test, "test", keeps=False)

    def judged(compared: Comparison) -> Evidence:
        percentile = job.config.percentile
        evidence = evidence_of(
            recipe, gate.quality, gate.divergence, compared, percentile, size_bytes
        )
        return evidence.model_copy(update=_in_time(compared, percentile))

    def resolved(compared: Comparison) -> Contract:
        here = {"baseline_seconds": compared.seconds(job.config.percentile)[0]}
        return contract.model_copy(update={**here, "baseline_quality": gate.quality.baseline_value})

    if not as_it_came:
        comparison = closer_look(
            job, comparison, partial(_is_hidden, judged(comparison), resolved(comparison)),
            partial(_timed, job, recipe, model),
        )  # fmt: skip
    return Verified(
        recipe=recipe,
        model=model,
        comparison=comparison,
        quality=gate.quality,
        test_quality=None if test is None else test.quality,
        evidence=judged(comparison),
        contract=resolved(comparison),
        answers=gate.answers,
        why_no_choice=gate.why_no_choice,
        stands_in=as_it_came and not job.backend.delivers_onnx,
    )


def answered(job: Job, verified: Verified) -> Verified:
    """With its answers again; nothing is timed or judged anew."""
    if verified.why_no_choice:
        return verified
    dense = job.kept(job.original, job.gating, _GATING)
    delivered = job.kept(verified.model, job.gating, _GATING + _DELIVERED)
    return replace(verified, answers=BothAnswers(delivered, dense))


@dataclass(frozen=True)
class _Judged:
    """What a file's answers to some rows are worth."""

    quality: Quality
    divergence: float
    """From the dense model's."""
    answers: BothAnswers | None
    """None where they are not kept."""
    why_no_choice: str
    """See `Verified`."""


def _judged(
    job: Job, model: LoweredModel | None, data: Dataset, name: str, *, keeps: bool
) -> _Judged:
    """Run a file over rows and judge it.

    Args:
        job: what all stages share.
        model: the file; None where it is the dense model itself.
        data: the rows.
        name: scratch directory of the dense model's answers.
        keeps: whether answers are kept, where each is a choice among classes.
    """
    dense, labels = job.reference(data, job.kept(job.original, data, name)), data.labels
    why = why_no_choice(dense.answers, data, job.metric)
    keeps = keeps and not why
    if model is None:
        quality = compare_quality(job.metric, dense.scores, dense.scores, labels)
        both = BothAnswers(dense.answers, dense.answers) if keeps else None
        return _Judged(quality, 0.0, both, why)
    keeper = Keeper(len(data), job.scratch(name + _DELIVERED)) if keeps else None
    answers = job.workshop.answers(model, data)
    mine, rows = row_scores(
        answers if keeper is None else keeper.passing(answers),
        (job.metric, job.workshop.divergence_metric), data, dense.answers,
    )  # fmt: skip
    quality = compare_quality(job.metric, mine, dense.scores, labels)
    both = None if keeper is None else BothAnswers(keeper.kept, dense.answers)
    return _Judged(quality, float(rows.mean()), both, why)


def _timed(job: Job, recipe: Recipe, model: LoweredModel, rounds: int) -> Comparison:
    """The file beside the baseline, in a process that has run nothing before."""
    files = {BASELINE_LABEL: job.original, recipe.id: model}
    if _is_original(job, recipe, model):
        files = {BASELINE_LABEL: model}
    settings = VERIFY_TIMING.model_copy(update={"rounds": rounds})
    timed = job.stopwatch.measure(files, settings, fresh=True)
    baseline = timed[BASELINE_LABEL]
    candidate = timed.get(recipe.id, baseline.model_copy(update={"label": recipe.id}))
    return Comparison(baseline=baseline, candidate=candidate)


def _is_original(job: Job, recipe: Recipe, model: LoweredModel) -> bool:
    """Whether it is the very file that came."""
    return not recipe.compressed_layers and model.sha256() == job.original.sha256()


def _in_time(compared: Comparison, percentile: Percentile) -> dict[str, float]:
    """What a budget in time is held against."""
    high = compared.seconds_interval(percentile).high
    return {"latency_seconds": compared.seconds(percentile)[1], "latency_seconds_high": high}


def _is_hidden(evidence: Evidence, contract: Contract, interval: Interval) -> bool:
    """Whether the verdict hangs on where the ratio is, in the interval or in another process."""
    untimed = evidence.model_copy(update={"latency_seconds": None, "latency_seconds_high": None})
    low, high = (
        untimed.model_copy(update={"latency_ratio": end, "latency_ratio_high": end})
        for end in (interval.low * (1 - BETWEEN_PROCESSES), interval.high * (1 + BETWEEN_PROCESSES))
    )
    hangs_on_it = low.meets_budget(contract) != high.meets_budget(contract)
    return hangs_on_it and evidence.meets_drop(contract)
