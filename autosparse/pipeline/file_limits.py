"""The limits of size and memory within one search: what is ruled out, and what is likely inside.

A predicted size screens out, lowered files decide on size, and a trial decides on memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from autosparse.evaluation.budget import byte_words
from autosparse.evaluation.gate import share_over
from autosparse.levels import Recipe
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.records import TrialRecord
from autosparse.search import CandidateRecord, RecipeSpace
from autosparse.search.memory_limit import MemoryLimit
from autosparse.search.size_limit import SizeLimit
from autosparse.search.strategy import SIZE_CONSTRAINT


@dataclass
class FileLimits:
    """What one search knows of its limits; without limits, everything is allowed."""

    size_bound: float | None = None
    """Largest allowed size in bytes; None where any will do."""
    size: SizeLimit | None = None
    """What recipes are thought to weigh; None where nothing asks for it, or no table tells."""
    memory: MemoryLimit | None = None
    outside: set[str] = field(default_factory=set)
    """Recipes that were measured, and found outside a limit."""

    @classmethod
    def of(cls, bench: Bench, space: RecipeSpace) -> FileLimits:
        """The limits of a job's contract."""
        contract = bench.baseline.contract
        size, memory = contract.size_bound, contract.memory_bound
        if size is None and memory is None:
            return cls()
        bound = float("inf") if size is None else size
        return cls(
            size_bound=size,
            size=SizeLimit.of(bound, bench.table.cells(), space),
            memory=None if memory is None else MemoryLimit(memory),
        )

    def why_too_large(self, recipe: Recipe) -> tuple[float, str] | None:
        """Predicted bytes and the reason against a recipe of the space; None where it may do."""
        if self.size is None or self.size_bound is None:
            return None
        predicted = self.size.predict(recipe.levels)
        if not self.size.excludes(predicted):
            return None
        reason = f"predicted to weigh {byte_words(predicted)}, over {byte_words(self.size_bound)}"
        return predicted, reason

    def is_thought_over(self, recipe: Recipe) -> bool:
        """Whether a recipe of the space is predicted to be over the limit of size."""
        if self.size is None or self.size_bound is None:
            return False
        return self.size.predict(recipe.levels) > self.size_bound

    def excludes(self, predicted_bytes: float) -> bool:
        """Whether files of a predicted size are surely over the limit."""
        return self.size is not None and self.size.excludes(predicted_bytes)

    def knows(self, record: CandidateRecord) -> bool:
        """Whether a sampled candidate tells its size, where that is limited."""
        return self.size_bound is None or record.size_bytes is not None

    def sampled(self, record: CandidateRecord) -> None:
        """Take in a candidate of the space that was lowered."""
        if self.size is not None and record.size_bytes is not None:
            self.size.learn(record.recipe.id, record.recipe.levels, record.size_bytes)

    def measured(self, record: TrialRecord, *, inside: bool) -> None:
        """Take in a trial."""
        if not inside:
            self.outside.add(record.recipe.id)
        size, peak = record.evidence.size_bytes, record.evidence.peak_memory_bytes
        if self.memory is None or size is None or peak is None:
            return
        self.memory.learn(record.recipe.id, size, peak)
        if self.size is not None:
            self.size.aim_at(self.memory.largest_size)

    def allows(self, record: CandidateRecord) -> bool:
        """Whether a sampled candidate is worth measuring: its files are not over the limit."""
        return share_over(record.size_bytes, self.size_bound) <= 0

    def probability_inside(self, record: CandidateRecord) -> float:
        """That a sampled candidate keeps the limit of memory."""
        return 1.0 if self.memory is None else self.memory.probability_inside(record.size_bytes)

    def constraints(self, recipe: Recipe, record: CandidateRecord | None) -> dict[str, float]:
        """How far a point is over the limit of size, in shares of it, as far as that is known."""
        if self.size_bound is None:
            return {}
        if record is not None and record.size_bytes is not None:
            return {SIZE_CONSTRAINT: record.size_bytes / self.size_bound - 1.0}
        if self.size is None:
            return {}
        return {SIZE_CONSTRAINT: self.size.predict(recipe.levels) / self.size_bound - 1.0}
