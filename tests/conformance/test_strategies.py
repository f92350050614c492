"""What every registered strategy must keep to, ours or a third party's.

Each plays a planted additive world: a point's latency and divergence are sums over its layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from autosparse.cli.catalog import seed_row
from autosparse.levels import BASELINE, Level
from autosparse.search import RecipeSpace, Strategy, StrategyContext
from autosparse.search.strategies import STRATEGIES
from autosparse.search.strategy import LATENCY_CONSTRAINT

LEVELS = (BASELINE, Level.parse("dense:int8+gptq"), Level.parse("2:4:int8+wanda"))
SPEEDS, LOSSES = (1.0, 0.5, 0.3), (0.0, 0.1, 1.0)
BOUND = 0.6
_TRIALS = 25
_LONG = 8_000
# Of the catalogue of papers that the project was built from; empty for what is in none of its rows.
SEED_ROWS = {
    "auto": "AL1, AL2, AL3", "front": "AL1, AL2, AL3", "evolution": "AL1",
    "knapsack": "AL2, AL3", "lamp": "AL4", "ecoflap": "AL5", "random": "AL7",
    "uniform": "", "tpe": "", "nsga2": "",
}  # fmt: skip

pytestmark = pytest.mark.parametrize("name", STRATEGIES.names())


def space(layers: int = 6, fixed: int = 1) -> RecipeSpace:
    """Layers with three levels, and some with one only."""
    levels: dict[str, tuple[Level, ...]] = {f"layer.{i}": LEVELS for i in range(layers)}
    levels.update({f"fixed.{i}": LEVELS[:1] for i in range(fixed)})
    return RecipeSpace("0" * 64, levels)


class World:
    """Latency and divergence of every point; later layers lose more."""

    def __init__(self, of: RecipeSpace, *, seed: int = 0, bound: float = BOUND) -> None:
        self.space = of
        index = {layer: number for number, layer in enumerate(of.levels)}
        cells = [(layer, LEVELS.index(x), x) for layer, xs in of.levels.items() for x in xs]
        self.context = StrategyContext(
            space=of,
            seconds={(layer, x): 1e-3 * SPEEDS[i] for layer, i, x in cells},
            divergence={(layer, x): LOSSES[i] * (1 + index[layer]) for layer, i, x in cells},
            weight_error={(layer, x): 0.01 * LOSSES[i] for layer, i, x in cells},
            lamp={(layer, x): 0.1 * (i == 2) / (1 + index[layer]) for layer, i, x in cells},
            latency_bound=bound,
            predicted_ratio=self.ratio,
            seed=seed,
        )

    def ratio(self, point: Mapping[str, int]) -> float:
        return sum(SPEEDS[point.get(layer, 0)] for layer in self.space.levels) / len(
            self.space.levels
        )

    def loss(self, point: Mapping[str, int]) -> float:
        levels = self.space.recipe(point).levels
        return sum(self.context.divergence[item] for item in levels.items())


class Play:
    """A study of one strategy in one world, told as the pipeline tells it."""

    def __init__(self, name: str, world: World) -> None:
        self.world = world
        self.strategy: Strategy = STRATEGIES.load(name)
        self.study = optuna.create_study(
            directions=["minimize"] * self.strategy.objectives,
            sampler=self.strategy.sampler(world.context),
        )

    def points(self, count: int, *, failing: int = 0) -> Iterator[dict[str, int]]:
        """Propose and tell; every `failing`-th candidate fails."""
        for number in range(count):
            trial = self.study.ask(fixed_distributions=dict(self.world.space.distributions()))
            point = dict(trial.params)
            yield point
            if failing and number % failing == 0:
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_constraint(LATENCY_CONSTRAINT, self.violation(point))
            self.study.tell(trial, self.values(point))

    def teach(self, point: Mapping[str, int]) -> None:
        """Add a point that the strategy was not asked for, as the pipeline does."""
        self.study.add_trial(
            create_trial(
                params=dict(point),
                distributions=dict(self.world.space.distributions()),
                values=self.values(point),
                constraints={LATENCY_CONSTRAINT: self.violation(point)},
            )
        )

    def values(self, point: Mapping[str, int]) -> list[float]:
        return [self.world.loss(point), self.world.ratio(point)][: self.strategy.objectives]

    def violation(self, point: Mapping[str, int]) -> float:
        return self.world.ratio(point) / self.world.context.latency_bound - 1


def test_it_says_what_it_is(name: str) -> None:
    strategy = STRATEGIES.load(name)
    assert isinstance(strategy, Strategy)
    assert strategy.name == name
    assert strategy.summary
    assert "\n" not in strategy.summary
    assert strategy.source
    assert strategy.objectives in (1, 2)


def test_it_says_when_to_use_it(name: str) -> None:
    what, _, when = STRATEGIES.load(name).summary.partition("; when ")
    assert what
    assert when, "write: what it does; when to use it"


def test_its_source_begins_with_its_seed_row(name: str) -> None:
    assert name in SEED_ROWS, f"add {name!r} to SEED_ROWS"
    assert seed_row(STRATEGIES.load(name).source) == SEED_ROWS[name]


def test_its_sampler_is_one_of_optunas_kind(name: str) -> None:
    strategy, context = STRATEGIES.load(name), World(space()).context
    first, second = strategy.sampler(context), strategy.sampler(context)
    assert isinstance(first, optuna.samplers.BaseSampler)
    assert first is not second  # one sampler of one study: nothing is shared between searches


def test_it_stays_inside_the_space(name: str) -> None:
    world = World(space())
    for point in Play(name, world).points(_TRIALS):
        assert point.keys() == world.space.distributions().keys()
        assert all(type(value) is int and 0 <= value <= 2 for value in point.values())
        assert world.space.contains(world.space.recipe(point))


def test_it_repeats_under_a_seed_and_not_under_another(name: str) -> None:
    first, again, other = (
        list(Play(name, World(space(), seed=seed)).points(_TRIALS)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_it_goes_on_after_failed_candidates(name: str) -> None:
    points = list(Play(name, World(space())).points(_TRIALS, failing=2))
    assert len(points) == _TRIALS
    assert len({tuple(point.values()) for point in points}) > 5


def test_it_goes_on_where_everything_failed(name: str) -> None:
    assert len(list(Play(name, World(space())).points(12, failing=1))) == 12


def test_it_goes_on_from_what_an_earlier_run_was_told(name: str) -> None:
    """Points and their figures are all that a resumed job has: what it proposes next is new."""
    world = World(space(layers=12))
    before = [tuple(point.values()) for point in Play(name, world).points(_TRIALS)]
    resumed = Play(name, world)
    for point in before:
        resumed.teach(dict(zip(world.space.distributions(), point, strict=True)))
    points = [tuple(point.values()) for point in resumed.points(5)]
    assert len(resumed.study.trials) == _TRIALS + 5
    # whoever draws around what is known may come upon it again, but not by beginning anew
    assert points != before[:5]
    assert len(set(points) - set(before)) >= 3


def test_it_proposes_late_in_a_long_search(name: str) -> None:
    """Every point of the space was told, many of them often."""
    play = Play(name, World(space()))
    names = list(play.world.space.distributions())
    every = list(itertools.product(range(3), repeat=len(names)))
    for _, numbers in zip(range(_LONG), itertools.cycle(every), strict=False):
        play.teach(dict(zip(names, numbers, strict=True)))
    assert len(list(play.points(2))) == 2


@pytest.mark.parametrize("bound", [0.01, 1.0])
def test_it_proposes_under_any_bound(name: str, bound: float) -> None:
    """Also where no recipe meets it, and where every one does."""
    assert len(list(Play(name, World(space(), bound=bound)).points(12))) == 12


def test_it_works_with_a_single_choice(name: str) -> None:
    world = World(space(layers=1, fixed=0))
    found = {point["layer.0"] for point in Play(name, world).points(15)}
    assert len(found) >= 2


def test_it_finds_better_points_than_the_fastest(name: str) -> None:
    """Worth its trials: of the points inside the bound, one that loses less than all at most."""
    world = World(space())
    play = Play(name, world)
    list(play.points(60))
    inside = [t for t in play.study.trials if is_inside(t)]
    assert inside
    best = min(world.loss(trial.params) for trial in inside)
    fastest = dict.fromkeys(world.space.distributions(), 2)
    assert best < 0.5 * world.loss(fastest)


def is_inside(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.COMPLETE and trial.constraints[LATENCY_CONSTRAINT] <= 0
