"""The search: a strategy proposes, trials answer, everything finished is written down."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState, create_trial

from autosparse.errors import AutoSparseError, CandidateError
from autosparse.evaluation.gate import rank
from autosparse.journal import Journal
from autosparse.levels import Recipe
from autosparse.pipeline.ledger import Ledger, constraints_of
from autosparse.pipeline.records import TrialRecord
from autosparse.pipeline.trial import Bench, run_trial
from autosparse.search import CandidateRecord, RecipeSpace, Rung, Strategy, StrategyContext
from autosparse.search.strategies import STRATEGIES

# A sampler that proposes only what is known has converged.
_KNOWN_IN_A_ROW = 50


class Search:
    """The state of one search; made anew from the ledger when a job is resumed."""

    def __init__(self, bench: Bench, space: RecipeSpace, ledger: Ledger) -> None:
        self._bench = bench
        self.space = space
        self._ledger = ledger
        self._log = Journal(bench.job.workspace.candidates, CandidateRecord)
        environment = bench.baseline.environment.id
        # evidence from another machine or runtime is history, not evidence
        current = [r for r in ledger.records if r.environment == environment]
        self._done = {r.recipe.id: r for r in current}
        self._failed = {c.recipe.id for c in self._log.records if c.rung is Rung.FAILED}

    @property
    def trials(self) -> list[TrialRecord]:
        """Trials measured in this environment."""
        return list(self._done.values())

    @property
    def candidates(self) -> int:
        """Recipes that were proposed, also in earlier runs of this job."""
        return len({record.recipe.id for record in self._log.records})

    @property
    def failures(self) -> int:
        """Recipes that could not be lowered, run or timed."""
        return len(self._failed)

    def best(self) -> TrialRecord | None:
        """The best deliverable trial so far."""
        deliverable = rank((t.evidence for t in self.trials), self._bench.baseline.contract)
        return self._done[deliverable[0].recipe_id] if deliverable else None

    def time_is_up(self) -> bool:
        """Whether the time limit has passed."""
        return self._bench.elapsed() > self._bench.job.config.time_limit

    def try_recipe(self, recipe: Recipe, proposed_by: str) -> TrialRecord | None:
        """Run a recipe unless it is known; None where it failed, now or before."""
        if recipe.id in self._done:
            return self._done[recipe.id]
        if recipe.id in self._failed:
            return None
        try:
            record = run_trial(self._bench, recipe, proposed_by)
        except CandidateError as error:
            self._failed.add(recipe.id)
            self._log.append(CandidateRecord(recipe=recipe, rung=Rung.FAILED, reason=str(error)))
            self._bench.job.engines.progress.note(f"{recipe.id} failed: {error}")
            return None
        self._ledger.append(record, self._bench.baseline.contract)
        self._log.append(CandidateRecord(recipe=recipe, rung=Rung.MEASURED))
        self._done[recipe.id] = record
        self._bench.job.engines.progress.trial(record, self.best())
        return record

    def run(self) -> None:
        """Let the strategy propose until trials, time or new recipes run out."""
        config = self._bench.job.config
        strategy = STRATEGIES.load(config.strategy)
        study = self._working_study(strategy)
        distributions = self.space.distributions()
        known_in_a_row = 0
        while (
            len(self._done) < min(config.trials, self.space.size)
            and known_in_a_row < _KNOWN_IN_A_ROW
            and not self.time_is_up()
        ):
            trial = study.ask(fixed_distributions=dict(distributions))
            recipe = self.space.recipe(trial.params)
            known = recipe.id in self._done or recipe.id in self._failed
            known_in_a_row = known_in_a_row + 1 if known else 0
            record = self.try_recipe(recipe, strategy.name)
            if record is None:
                study.tell(trial, state=TrialState.FAIL)
                continue
            for key, violation in self._constraints(record).items():
                trial.set_constraint(key, violation)
            study.tell(trial, _values(record, strategy))

    def _working_study(self, strategy: Strategy) -> optuna.Study:
        """A study in memory with a parameter per layer, which is what samplers learn from."""
        table = self._bench.table
        cells = [table.cell(n, level) for n, o in self.space.levels.items() for level in o]
        context = StrategyContext(
            space=self.space,
            seconds={(c.layer, c.level): c.seconds or 0.0 for c in cells},
            divergence={(c.layer, c.level): c.divergence or 0.0 for c in cells},
            latency_bound=min(self._bench.baseline.contract.latency_ratio, 1.0),
            seed=self._bench.job.config.seed,
        )
        study = optuna.create_study(
            directions=["minimize"] * strategy.objectives, sampler=strategy.sampler(context)
        )
        for record in self.trials:
            if self.space.contains(record.recipe):
                study.add_trial(
                    create_trial(
                        state=TrialState.COMPLETE,
                        params=self.space.parameters(record.recipe),
                        distributions=dict(self.space.distributions()),
                        values=_values(record, strategy),
                        constraints=self._constraints(record),
                    )
                )
        return study

    def _constraints(self, record: TrialRecord) -> dict[str, float]:
        return constraints_of(record, self._bench.baseline.contract)


def _values(record: TrialRecord, strategy: Strategy) -> list[float]:
    if strategy.objectives == 1:
        return [record.evidence.drop]
    return [record.evidence.drop, record.evidence.latency_ratio]


def resolve_space(bench: Bench) -> RecipeSpace:
    """The levels that the table says may be searched, slowest first."""
    searched = [cell for cell in bench.table.cells() if cell.searched]
    levels = {
        layer.name: tuple(
            cell.level
            for cell in sorted(
                (c for c in searched if c.layer == layer.name), key=lambda c: -(c.seconds or 0.0)
            )
        )
        for layer in bench.job.graph.layers
    }
    empty = [name for name, choices in levels.items() if not choices]
    if empty:
        raise AutoSparseError(f"the layer {empty[0]} has no level at all")
    return RecipeSpace(model_sha256=bench.job.graph.sha256, levels=levels)
