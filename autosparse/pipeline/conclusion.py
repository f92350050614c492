"""The conclusion: verify the best trials until one holds, and say how the job ended."""

from __future__ import annotations

import math

from autosparse.artifacts.manifest import Offer, SearchSummary
from autosparse.errors import CandidateError, MeasurementError
from autosparse.evaluation import Contract, Verdict
from autosparse.evaluation.gate import best_effort, rank
from autosparse.levels import Recipe
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.delivery import Answer, nearest_offers
from autosparse.pipeline.lowering import lower_recipe
from autosparse.pipeline.predictor_report import predictor_report
from autosparse.pipeline.records import MeasuredTrial, TrialRecord
from autosparse.pipeline.recover import Recovered
from autosparse.pipeline.recovery_report import recovery_report
from autosparse.pipeline.search_run import Search
from autosparse.pipeline.starts import Starts
from autosparse.pipeline.verification import Verified, verify_model

_MOST_VERIFICATIONS = 6


def conclude(
    bench: Bench, search: Search, starts: Starts, recovered: Recovered | None = None
) -> Answer:
    """Verify, decide, and gather what the report tells.

    A file is delivered as meeting the contract only after it was lowered again, opened in a
    fresh process, timed against the baseline and evaluated on rows that no choice was made on.

    Raises:
        MeasurementError: not even the best effort could be verified.
    """
    bench.job.engines.progress.stage("verify", "in a fresh process, on rows not searched on")
    contract = bench.baseline.contract
    trials = {trial.recipe.id: trial for trial in search.trials}
    recovered = recovered or Recovered()
    notes = [*bench.notes, *starts.notes, *recovered.notes]
    verified = _first_that_holds(bench, search, notes)
    if verified is not None:
        # exit code 0 is for what was measured
        verdict = Verdict.SIMULATED if bench.job.target.is_simulated else Verdict.MET
    else:
        verdict = Verdict.LATENCY_INFEASIBLE if starts.infeasible else Verdict.NOT_FOUND
        verified = _best_effort(bench, search, notes)
    met = verdict in (Verdict.MET, Verdict.SIMULATED)
    if met and verified.recipe.id in trials:
        notes.extend(_faster_alike(trials[verified.recipe.id], search.trials))
    return Answer(
        verdict=verdict,
        verified=verified,
        trials=tuple(search.trials),
        fastest=_fastest_offer(bench, starts, trials),
        offers=() if met else nearest_offers(tuple(search.trials), contract),
        search=_summary(bench, search),
        notes=tuple(notes),
        predictor=predictor_report(search.predictor),
        recovery=recovery_report(recovered, verified.recipe.id),
    )


def _first_that_holds(bench: Bench, search: Search, notes: list[str]) -> Verified | None:
    """Verify trials, the best first, until one holds.

    Where a budget is a time and one has failed, the share of the baseline that it comes to is that
    of the run that just told: on a machine that became slower, what would be late as well is left
    out, and not verified in vain.
    """
    contract = bench.baseline.contract
    untried = {trial.recipe.id: trial for trial in search.trials}
    for _ in range(_MOST_VERIFICATIONS):
        ranked = rank((trial.evidence for trial in untried.values()), contract)
        if not ranked:
            break
        attempt = _verify(bench, untried.pop(ranked[0].recipe_id).recipe, notes)
        if attempt is None:
            continue
        if attempt.holds:
            return attempt
        notes.append(_why_it_failed(attempt, contract))
        contract = contract.model_copy(
            update={"baseline_seconds": attempt.contract.baseline_seconds}
        )
    return None


def _verify(bench: Bench, recipe: Recipe, notes: list[str]) -> Verified | None:
    try:
        model = lower_recipe(
            bench.job, bench.table, recipe, bench.ranges, f"verify-{recipe.id}", bench.correction
        )
        found = verify_model(bench.job, bench.baseline.contract, recipe, model)
    except CandidateError as error:
        notes.append(f"recipe {recipe.id} could not be verified: {error}")
        return None
    bench.raw.append(
        MeasuredTrial(recipe_id=recipe.id, comparison=found.comparison, purpose="verification")
    )
    return found


def _why_it_failed(attempt: Verified, before: Contract) -> str:
    evidence, contract = attempt.evidence, attempt.contract
    if not evidence.meets_budget(contract):
        baseline, seconds = attempt.comparison.seconds(contract.percentile)
        return (
            f"recipe {evidence.recipe_id} met the budget in the search but took "
            f"{seconds * 1e3:.3f} ms when verified, {evidence.latency_ratio:.3f} of the baseline's "
            f"{baseline * 1e3:.3f} ms in the same run; before, the baseline took "
            f"{before.baseline_seconds * 1e3:.3f} ms"
        )
    return (
        f"recipe {evidence.recipe_id} kept the quality on the rows that select but dropped "
        f"{evidence.drop:.4g} on the rows that gate"
    )


def _faster_alike(delivered: TrialRecord, trials: list[TrialRecord]) -> list[str]:
    """A hint where time is to be had for nothing: beyond the noise faster, and no less accurate.

    The file nearest to the dense model is delivered, and a budget is only a bound.
    """
    alike = [
        trial
        for trial in trials
        if trial.evidence.latency_ratio_high < delivered.evidence.latency_ratio
        and trial.evidence.drop <= delivered.evidence.drop
    ]
    if not alike:
        return []
    faster = min(alike, key=lambda trial: trial.evidence.latency_ratio)
    ratio = faster.evidence.latency_ratio
    hint = (
        f"a faster file with the same measured drop exists: recipe {faster.recipe.id} takes "
        f"{ratio:.1%} of the baseline's latency, on the rows that select; ask for "
        f"--latency-budget {math.ceil(ratio * 100)}% with `autosparse resolve`"
    )
    return [hint]


def _best_effort(bench: Bench, search: Search, notes: list[str]) -> Verified:
    """The nearest file that is not slower than the baseline; the dense model if there is none."""
    trials = {trial.recipe.id: trial for trial in search.trials}
    nearest = best_effort((t.evidence for t in search.trials), bench.baseline.contract)
    candidates = [trials[nearest.recipe_id].recipe] if nearest else []
    dense = bench.dense_recipe
    for recipe in [*candidates, dense]:
        verified = _verify(bench, recipe, notes)
        # the dense model may measure a hair above itself; anything else must not be slower
        if verified is not None and (recipe is dense or verified.evidence.latency_ratio <= 1.0):
            return verified
    raise MeasurementError(
        "no file could be verified: " + "; ".join(notes[-2:]),
        hint="stop other work on this machine and try again with --resume",
    )


def _fastest_offer(bench: Bench, starts: Starts, trials: dict[str, TrialRecord]) -> Offer | None:
    trial = trials.get(starts.fastest.recipe.id)
    percentile = bench.job.config.percentile
    if trial is None:
        return None
    return Offer(
        recipe_id=trial.recipe.id,
        latency_seconds=starts.fastest.comparison.candidate.percentile_seconds(percentile),
        latency_ratio=starts.fastest.comparison.ratio(percentile),
        drop=trial.evidence.drop,
    )


def _summary(bench: Bench, search: Search) -> SearchSummary:
    return SearchSummary(
        strategy=bench.job.config.strategy,
        trials=len(search.trials),
        candidates=search.candidates,
        failed=search.failures,
        seconds=bench.job.elapsed,
        seed=bench.job.config.seed,
    )
