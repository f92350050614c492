"""Verification: a file is opened in a fresh process, timed against the baseline, evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from autosparse.evaluation import (
    Comparison,
    Contract,
    Evidence,
    Interval,
    LoweredModel,
    Percentile,
    Quality,
)
from autosparse.evaluation.metrics import Outputs
from autosparse.evaluation.quality import compare_quality
from autosparse.evaluation.timing import TimingSettings
from autosparse.levels import Recipe
from autosparse.pipeline.closer_look import closer_look
from autosparse.pipeline.job import Job
from autosparse.pipeline.records import evidence_of
from autosparse.pipeline.stopwatch import BASELINE_LABEL

VERIFY_TIMING = TimingSettings(rounds=16, block_seconds=0.04, max_seconds=30.0)
BETWEEN_PROCESSES = 0.01
"""By so much a ratio differs from one process to the next (where memory lies, what the clock does),
which the rounds of one process do not tell. `python -m benchmarks job` prints a job's ratio beside
that of its bundle verified again: of nine bundles of two models they differed by 1.1 % in the mean.
Each further run of a closer look is in a process of its own."""


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
    dense_outputs: Outputs
    outputs: Outputs
    stands_in: bool = False
    """Whether it is the model as it came, in a job for another kind of file: what is delivered
    where none of that kind is as fast, and no answer."""

    @property
    def holds(self) -> bool:
        """Whether the file may be delivered as meeting the contract."""
        return self.evidence.meets(self.contract) and not self.stands_in

    def without_answers(self) -> Verified:
        """What is worth keeping of a file that may not be delivered: answers can be large."""
        return replace(self, dense_outputs=Outputs({}), outputs=Outputs({}))


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
    dense = job.answer(job.original, job.gating)
    outputs = dense if as_it_came else job.answer(model, job.gating)
    quality = compare_quality(job.metric, outputs, dense, job.gating)
    test_quality = None
    if job.test is not None:
        expected = job.answer(job.original, job.test)
        answers = expected if as_it_came else job.answer(model, job.test)
        test_quality = compare_quality(job.metric, answers, expected, job.test)
    divergence = job.divergence(outputs, dense)

    def judged(compared: Comparison) -> Evidence:
        percentile = job.config.percentile
        evidence = evidence_of(recipe, quality, divergence, compared, percentile, size_bytes)
        return evidence.model_copy(update=_in_time(compared, percentile))

    def resolved(compared: Comparison) -> Contract:
        here = {"baseline_seconds": compared.seconds(job.config.percentile)[0]}
        return contract.model_copy(update={**here, "baseline_quality": quality.baseline_value})

    if not as_it_came:
        comparison = closer_look(
            job, comparison, partial(_is_hidden, judged(comparison), resolved(comparison)),
            partial(_timed, job, recipe, model),
        )  # fmt: skip
    return Verified(
        recipe=recipe,
        model=model,
        comparison=comparison,
        quality=quality,
        test_quality=test_quality,
        evidence=judged(comparison),
        contract=resolved(comparison),
        dense_outputs=dense,
        outputs=outputs,
        stands_in=as_it_came and not job.backend.delivers_onnx,
    )


def answered(job: Job, verified: Verified) -> Verified:
    """With its answers again; nothing is timed or judged anew."""
    dense, outputs = (job.answer(model, job.gating) for model in (job.original, verified.model))
    return replace(verified, dense_outputs=dense, outputs=outputs)


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
