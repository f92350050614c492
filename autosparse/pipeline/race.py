"""The race: cheap evidence first, full evidence only for survivors.

Rungs: predicted latency (microseconds), divergence on a few rows (one lowering, no timing), and
then a trial on all selecting rows and the target. Everything proposed is in the candidate log.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import Trial, TrialState, create_trial

from autosparse.errors import CandidateError, NoMemoryError
from autosparse.journal import Journal
from autosparse.levels import Recipe
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.file_limits import FileLimits
from autosparse.pipeline.scoring import FewRows
from autosparse.pipeline.strategy_context import ContextMaker
from autosparse.search import CandidateRecord, RecipeSpace, Rung, Strategy
from autosparse.search.acquisition import bound_of_turn, expected_improvement
from autosparse.search.held_latency import HeldLatency
from autosparse.search.knapsack import knapsack_points
from autosparse.search.latency_predictor import LatencyPredictor, Prediction
from autosparse.search.strategy import LATENCY_CONSTRAINT, SCREENED
from autosparse.search.table_starts import table_starts

# An expected improvement under this share is not worth a measurement while others are open.
_WORTHWHILE = 0.005
# What is thought to take too much memory is not measured for want of something better.
_LIKELY = 0.5


@dataclass
class Race:
    """Candidates of one search, and the study in memory that its strategy learns from."""

    bench: Bench
    space: RecipeSpace
    predictor: LatencyPredictor
    strategy: Strategy
    log: Journal[CandidateRecord]
    latency: HeldLatency
    """What is held against the bound; measured where it was, else expected."""
    limits: FileLimits = field(default_factory=FileLimits)
    """What files may weigh, and take at their peak."""
    sampled: dict[str, CandidateRecord] = field(default_factory=dict)
    """Candidates whose divergence on the few rows is known."""
    screened: dict[str, CandidateRecord] = field(default_factory=dict)
    failed: dict[str, CandidateRecord] = field(default_factory=dict)
    """Also what is none of the space's recipes: starts, and what was measured before."""

    def __post_init__(self) -> None:
        self._bound = self.latency.bound
        self._contexts = ContextMaker(
            self.bench, self.space, self.predictor, self.latency, self.limits.size
        )
        self._study = optuna.create_study(
            directions=["minimize"] * self.strategy.objectives,
            sampler=self.strategy.sampler(self._contexts.context()),
        )
        known = self._still_known()
        for record in known:
            self._remember(record)
        for record in known:
            if self._stands(record):
                self._teach(record)

    @property
    def is_exhausted(self) -> bool:
        """Whether every recipe of the space has been proposed."""
        failed = {i for i, record in self.failed.items() if self.space.contains(record.recipe)}
        return len(self.sampled.keys() | self.screened.keys() | failed) >= self.space.size

    def propose(self, count: int = 1) -> int:
        """Take proposals as far as they deserve; how many of them were new.

        All are asked for before the first is answered, and told in the order in which they were
        asked for: how many workers answer them makes no difference.
        """
        space: dict[str, BaseDistribution] = dict(self.space.distributions())
        trials = [self._study.ask(fixed_distributions=space) for _ in range(count)]
        recipes = [self.space.recipe(trial.params) for trial in trials]
        new = {recipe.id: recipe for recipe in recipes if not self._knows(recipe)}
        self._climb(list(new.values()))
        for trial, recipe in zip(trials, recipes, strict=True):
            self._tell(trial, recipe)
        return len(new)

    def _tell(self, trial: Trial, recipe: Recipe) -> None:
        record = self.sampled.get(recipe.id)
        if record is None and recipe.id not in self.screened:
            # it failed, or the time was up before its turn
            self._study.tell(trial, state=TrialState.FAIL)
            return
        # a screened recipe teaches too: its place outside the bound, and what the table says of it
        if record is None:
            trial.set_user_attr(SCREENED, True)
        for key, violation in self._constraints(recipe, record).items():
            trial.set_constraint(key, violation)
        self._study.tell(trial, self._values(recipe, record))

    def add(self, *recipes: Recipe) -> None:
        """Enter recipes that no strategy proposed: starts, or what was measured before."""
        known = self.sampled.keys() | self.failed
        new = {r.id: r for r in recipes if self.space.contains(r) and r.id not in known}
        for record in self._sample(list(new.values())):
            self._teach(record)

    def add_table_starts(self) -> None:
        """Enter what the table and the predictor, as they are now, say is best.

        By the expected latency, and by the highest that is likely: so that there are candidates
        which are sure to be inside, too.
        """
        contexts = [self._contexts.context(sure=sure) for sure in (True, False)]
        points = [point for context in contexts for point in table_starts(context)]
        recipes = [self.space.recipe(point) for point in points]
        self.add(*(r for r in recipes if self.limits.why_too_large(r) is None))

    def without_limit(self) -> list[Recipe]:
        """What the table says is best where any size will do; nothing where that keeps the limit.

        It is measured once, so that the report can tell what the limit costs.
        """
        points = knapsack_points(replace(self._contexts.context(), size_limit=None))[:1]
        recipes = [self.space.recipe(point) for point in points]
        return [recipe for recipe in recipes if self.limits.is_thought_over(recipe)]

    def most_promising(self, number: int) -> Recipe | None:
        """The unmeasured candidate that should improve most on what was measured inside a bound.

        That is the contract's; where the whole front is wanted, others take turns with it. Where no
        candidate improves, the one nearest to the dense model among those predicted inside: few
        rows do not tell everything.

        Args:
            number: of the trial, from 0 on.
        """
        open_ones = {
            recipe_id: self.latency.of(self.predictor.predict(record.recipe))
            for recipe_id, record in self.sampled.items()
            if self.latency.known(recipe_id) is None and recipe_id not in self.failed
            if self.limits.allows(record)
        }
        for bound in dict.fromkeys((self._aim(number), self._bound)):
            improving = self._most_improving(open_ones, bound)
            if improving is not None:
                return improving
        likely = [
            self.sampled[recipe_id]
            for recipe_id, predicted in open_ones.items()
            if predicted.ratio <= self._bound
        ]
        inside = [r for r in likely if self.limits.probability_inside(r) >= _LIKELY]
        return min(inside, key=_divergence_of).recipe if inside else None

    def _aim(self, number: int) -> float:
        """The bound that a trial is chosen for."""
        least = self.latency.least
        if self.strategy.objectives == 1 or least is None:
            return self._bound
        return bound_of_turn(number, least, self._bound)

    def _most_improving(self, open_ones: Mapping[str, Prediction], bound: float) -> Recipe | None:
        """Which of some candidates improves most inside a bound; None where none does to speak of.

        Args:
            open_ones: recipe id -> what is expected to be held against the bound.
            bound: latency as a share of the baseline's.
        """
        best = self._best_inside(bound)
        gains = {
            recipe_id: self.limits.probability_inside(self.sampled[recipe_id])
            * expected_improvement(predicted, _divergence_of(self.sampled[recipe_id]), bound, best)
            for recipe_id, predicted in open_ones.items()
        }
        top = max(gains, key=lambda recipe_id: gains[recipe_id], default=None)
        return None if top is None or gains[top] <= _WORTHWHILE else self.sampled[top].recipe

    def _best_inside(self, bound: float) -> float:
        """Least divergence on the few rows among what was measured inside a bound.

        Where nothing was, the largest divergence known: then any candidate improves, and the most
        probable ones first.
        """
        known = {i: d for i, r in self.sampled.items() if math.isfinite(d := _divergence_of(r))}
        inside = [
            divergence
            for recipe_id, divergence in known.items()
            if (held := self.latency.known(recipe_id)) is not None
            and held <= bound
            and recipe_id not in self.limits.outside
        ]
        return min(inside, default=2 * max(known.values(), default=math.inf))

    def latency_of(self, recipe: Recipe) -> float:
        """What is held against the bound: measured where it was, else expected."""
        held = self.latency.known(recipe.id)
        return self.latency.of(self.predictor.predict(recipe)).ratio if held is None else held

    def fail(self, recipe: Recipe, error: CandidateError) -> None:
        """Remember that a recipe failed: for ever, unless a retry may help.

        What wanted memory is logged all the same: one retry tells whether it always does.
        """
        no_memory = isinstance(error, NoMemoryError)
        record = CandidateRecord(
            recipe=recipe, rung=Rung.FAILED, reason=str(error), no_memory=no_memory
        )
        if error.retryable and not no_memory:
            self._remember(record)
            self.bench.job.engines.progress.note(f"{recipe.id} failed for now: {error}")
            return
        self._note(record)

    def _still_known(self) -> list[CandidateRecord]:
        """What earlier runs logged, but for what wanted memory once: something else had it then."""
        wanted = Counter(record.recipe.id for record in self.log.records if record.no_memory)
        return [r for r in self.log.records if not (r.no_memory and wanted[r.recipe.id] == 1)]

    def _knows(self, recipe: Recipe) -> bool:
        return any(recipe.id in seen for seen in (self.sampled, self.screened, self.failed))

    def _climb(self, recipes: Sequence[Recipe]) -> None:
        """Screen by predicted size and latency, then sample what is left, as far as time allows."""
        open_ones = [recipe for recipe in recipes if not self._is_screened(recipe)]
        self._sample(open_ones, while_there_is_time=True)

    def _is_screened(self, recipe: Recipe) -> bool:
        too_large = self.limits.why_too_large(recipe)
        if too_large is not None:
            predicted_bytes, reason = too_large
            self._note(
                CandidateRecord(
                    recipe=recipe, rung=Rung.SCREENED, predicted_size_bytes=predicted_bytes,
                    reason=reason,
                )
            )  # fmt: skip
            return True
        predicted, bound = self.predictor.predict(recipe), self.latency.largest_estimate
        if predicted.low <= bound or self.strategy.objectives > 1:
            return False
        self._note(
            CandidateRecord(
                recipe=recipe, rung=Rung.SCREENED, predicted_ratio=predicted.ratio,
                bound=bound,
                reason=f"predicted at {predicted.ratio:.1%} of the baseline, at least "
                f"{predicted.low:.1%}, over {bound:.1%}",
            )
        )  # fmt: skip
        return True

    def _sample(
        self, recipes: Sequence[Recipe], *, while_there_is_time: bool = False
    ) -> list[CandidateRecord]:
        """Run the lowered files on the few rows; records of those that ran."""
        job = self.bench.job
        tasks = takewhile(
            lambda task: not (while_there_is_time and job.time_is_up), map(FewRows, recipes)
        )
        answers = job.engines.pool.run(self.bench.kit, tasks)
        records, sample = [], self.bench.sample
        for recipe, answer in zip(recipes, answers, strict=False):  # those that were reached
            if isinstance(answer, CandidateError):
                self.fail(recipe, answer)
            elif not math.isfinite(answer.divergence):
                self.fail(recipe, CandidateError("its outputs are NaN or infinite"))
            else:
                ratio = self.predictor.predict(recipe).ratio
                record = CandidateRecord(
                    recipe=recipe, rung=Rung.SAMPLED, divergence=answer.divergence,
                    rows=len(sample.rows), sample=sample.id, predicted_ratio=ratio,
                    size_bytes=answer.size_bytes,
                )  # fmt: skip
                self._note(record)
                records.append(record)
        return records

    def _note(self, record: CandidateRecord) -> None:
        self.log.append(record)
        self._remember(record)

    def _remember(self, record: CandidateRecord) -> None:
        if record.rung is Rung.FAILED:
            self.failed[record.recipe.id] = record
        elif record.rung is Rung.SCREENED:
            if self._still_screens(record):
                self.screened[record.recipe.id] = record
        elif self._is_known_sample(record):
            self.sampled[record.recipe.id] = record
            self.limits.sampled(record)

    def _still_screens(self, record: CandidateRecord) -> bool:
        """Whether what it was screened by holds: with looser bounds, a resumed job asks anew."""
        if not self.space.contains(record.recipe):
            return False
        if record.predicted_size_bytes is not None:
            return self.limits.excludes(record.predicted_size_bytes)
        return record.bound is not None and record.bound >= self.latency.largest_estimate

    def _is_known_sample(self, record: CandidateRecord) -> bool:
        """Whether it tells all that is asked: what an earlier version wrote may lack the size.

        Divergences on other rows are no better or worse than those on these.
        """
        same_rows = record.sample == self.bench.sample.id
        complete = record.divergence is not None and self.limits.knows(record) and same_rows
        return complete and self.space.contains(record.recipe)

    def _stands(self, record: CandidateRecord) -> bool:
        """Whether a logged candidate is to be told to the study again.

        What failed when it was to be measured was told as it was sampled.
        """
        recipe_id = record.recipe.id
        if record.rung is Rung.FAILED:
            is_last = record is self.failed.get(recipe_id) and recipe_id not in self.sampled
            return is_last and self.space.contains(record.recipe)
        return any(record is known.get(recipe_id) for known in (self.sampled, self.screened))

    def _teach(self, record: CandidateRecord) -> None:
        """Add a candidate that the study did not ask for, as `_tell` tells one that it did."""
        recipe, point = record.recipe, self.space.parameters(record.recipe)
        space: dict[str, BaseDistribution] = dict(self.space.distributions())
        if record.rung is Rung.FAILED:
            failed = create_trial(state=TrialState.FAIL, params=point, distributions=space)
            self._study.add_trial(failed)
            return
        screened = record.rung is Rung.SCREENED
        told = None if screened else record
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE, params=point, distributions=space,
                values=self._values(recipe, told), constraints=self._constraints(recipe, told),
                user_attrs={SCREENED: True} if screened else {},
            )
        )  # fmt: skip

    def _constraints(self, recipe: Recipe, record: CandidateRecord | None) -> dict[str, float]:
        latency = {LATENCY_CONSTRAINT: self.latency_of(recipe) / self._bound - 1.0}
        return latency | self.limits.constraints(recipe, record)

    def _values(self, recipe: Recipe, record: CandidateRecord | None) -> list[float]:
        """What the study is told of a recipe that was sampled, or screened where there is none."""
        table = self.bench.table
        divergence = (
            table.summed_divergence(recipe.levels) if record is None else _divergence_of(record)
        )
        return [divergence, self.latency_of(recipe)][: self.strategy.objectives]


def _divergence_of(record: CandidateRecord) -> float:
    return float("inf") if record.divergence is None else record.divergence
