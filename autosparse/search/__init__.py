"""Search: spaces of recipes, strategies that propose, and the log of what was proposed."""

from autosparse.search.candidate_log import CandidateRecord, Rung
from autosparse.search.space import RecipeSpace
from autosparse.search.strategy import Strategy, StrategyContext

__all__ = ["CandidateRecord", "RecipeSpace", "Rung", "Strategy", "StrategyContext"]
