"""Strategies: what proposes candidates. One file each, one line here."""

from autosparse.registry import Registry
from autosparse.search.strategy import Strategy

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    {
        "evolution": "autosparse.search.strategies.evolution:Evolution",
        "tpe": "autosparse.search.strategies.tpe:TreeParzenEstimator",
        "nsga2": "autosparse.search.strategies.nsga2:Nsga2",
        "random": "autosparse.search.strategies.random_search:RandomSearch",
    },
    expected=Strategy,  # type: ignore[type-abstract]
    group="autosparse.strategies",
)

__all__ = ["STRATEGIES"]
