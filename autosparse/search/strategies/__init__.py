"""Strategies: what proposes candidates. One file each, one line here."""

from autosparse.registry import Registry
from autosparse.search.strategy import Strategy

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    {
        "auto": "autosparse.search.strategies.auto:Auto",
        "front": "autosparse.search.strategies.front:Front",
        "evolution": "autosparse.search.strategies.evolution:Evolution",
        "knapsack": "autosparse.search.strategies.knapsack:Knapsack",
        "lamp": "autosparse.search.strategies.lamp:Lamp",
        "ecoflap": "autosparse.search.strategies.ecoflap:Ecoflap",
        "uniform": "autosparse.search.strategies.uniform:Uniform",
        "tpe": "autosparse.search.strategies.tpe:TreeParzenEstimator",
        "nsga2": "autosparse.search.strategies.nsga2:Nsga2",
        "random": "autosparse.search.strategies.random_search:RandomSearch",
    },
    expected=Strategy,
    group="autosparse.strategies",
)

__all__ = ["STRATEGIES"]
