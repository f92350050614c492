"""What a strategy is told: scores from the level table, and the predictor."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.levels import Level
from autosparse.pipeline.bench import Bench
from autosparse.search import RecipeSpace, StrategyContext
from autosparse.search.held_latency import HeldLatency
from autosparse.search.lamp import lamp_scores_of
from autosparse.search.latency_predictor import LatencyPredictor
from autosparse.search.size_limit import SizeLimit


class ContextMaker:
    """Makes contexts of one search; what does not change is computed once.

    Args:
        bench: the level table and the layers' weights.
        space: what may be chosen.
        predictor: is asked anew whenever a context is.
        latency: what of a prediction is held against the bound.
        size_limit: what files may weigh; None where any size will do.
    """

    def __init__(
        self,
        bench: Bench,
        space: RecipeSpace,
        predictor: LatencyPredictor,
        latency: HeldLatency,
        size_limit: SizeLimit | None,
    ) -> None:
        cell = bench.table.cell
        self._bench, self._space, self._predictor = bench, space, predictor
        self._latency, self._size_limit = latency, size_limit
        self._seconds = space.totals(lambda name, level: cell(name, level).seconds or 0.0)
        self._divergence = space.totals(lambda name, level: cell(name, level).divergence or 0.0)
        self._weight_error = space.totals(lambda name, level: cell(name, level).weight_error)
        lamp = _lamp(bench, space)
        self._lamp = space.totals(lambda name, level: lamp[name, level])

    def context(self, *, sure: bool = False) -> StrategyContext:
        """A context; with the likely highest latencies where it is to be sure."""

        def ratio(point: Mapping[str, int]) -> float:
            predicted = self._latency.of(self._predictor.predict(self._space.recipe(point)))
            return predicted.high if sure else predicted.ratio

        return StrategyContext(
            space=self._space,
            seconds=self._seconds,
            divergence=self._divergence,
            weight_error=self._weight_error,
            lamp=self._lamp,
            latency_bound=self._latency.bound,
            predicted_ratio=ratio,
            seed=self._bench.job.config.seed,
            size_limit=self._size_limit,
        )


def _lamp(bench: Bench, space: RecipeSpace) -> dict[tuple[str, Level], float]:
    """LAMP scores of the dense weights at each level's zeros."""
    graph = bench.job.graph
    found: dict[tuple[str, Level], float] = {}
    for layer in graph.layers:
        levels = space.layers[layer.name].levels
        scores = lamp_scores_of(graph.weight(layer), [level.sparsity for level in levels])
        found.update(((layer.name, level), s) for level, s in zip(levels, scores, strict=True))
    return found
