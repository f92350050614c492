"""The gate: which measured file, if any, may be delivered."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from math import inf, isnan
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from autosparse.evaluation.budget import Budget, MaxBytes, MaxDrop, Percentile
from autosparse.evaluation.measurement import Comparison
from autosparse.evaluation.told_apart import is_surely_larger

Clause = Literal["latency", "quality", "size", "memory"]
"""What a contract bounds."""


class Verdict(StrEnum):
    """How a job ended."""

    MET = "met"
    """The exported file was re-measured inside budget and max_drop."""
    LATENCY_INFEASIBLE = "latency-infeasible"
    """The fastest recipe, measured, misses the budget."""
    NOT_FOUND = "not-found-within-limits"
    """No file inside budget and max_drop was found in the trials and time given, or none held when
    it was verified."""
    SIMULATED = "simulated"
    """The contract holds on a device that is only simulated: no latency was measured."""

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        codes = {"met": 0, "latency-infeasible": 3, "not-found-within-limits": 4, "simulated": 4}
        return codes[self.value]


class Contract(BaseModel):
    """What was promised, resolved against the measured baseline."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    budget: Budget
    """Latency bound as asked."""
    percentile: Percentile
    """Percentile that the bound holds for."""
    max_drop: MaxDrop
    """Allowed loss of quality as asked."""
    strict: bool
    """Whether the interval's bound, not the estimate, must hold."""
    baseline_seconds: float
    """The baseline's latency in the run that the contract is resolved against."""
    baseline_quality: float
    """The dense model's metric on the rows that select."""
    max_size: MaxBytes | None = None
    """Largest size of the file with what it needs, as asked; None where it is not limited."""
    max_memory: MaxBytes | None = None
    """Largest peak memory as asked; None where it is not limited."""
    baseline_size_bytes: int | None = None
    """Size of the model as it came; None where an earlier version resolved the contract."""
    baseline_peak_memory_bytes: int | None = None
    """Its peak memory; None where it was not measured."""

    @property
    def latency_ratio(self) -> float:
        """Largest allowed latency as a share of the baseline's."""
        return self.bound_seconds / self.baseline_seconds

    @property
    def bound_seconds(self) -> float:
        """Largest allowed latency in seconds."""
        return self.budget.seconds(self.baseline_seconds)

    def allowed_drop(self) -> float:
        """Largest allowed drop in the metric's unit."""
        return self.max_drop.allowance(self.baseline_quality)

    def surely_missed_by(self, found: Comparison) -> bool:
        """Whether a file misses the latency bound beyond its interval.

        A time must be missed as a time, too: the machine may have been another one, as it were,
        when the bound became a share of the baseline.
        """
        ratio = found.ratio_interval(self.percentile).low
        if ratio <= min(self.latency_ratio, 1.0):
            return False
        late = found.seconds_interval(self.percentile).low > self.bound_seconds
        return late or self.budget.is_relative or ratio > 1.0

    @property
    def size_bound(self) -> float | None:
        """Largest allowed size in bytes."""
        return None if self.max_size is None else self.max_size.bytes(self.baseline_size_bytes)

    def limit_flags(self, clauses: Iterable[Clause]) -> str:
        """The limits that some clauses are about, as they were given."""
        asked = {"size": self.max_size, "memory": self.max_memory}
        wanted = set(clauses)
        return " and ".join(f"--max-{n} {limit}" for n, limit in asked.items() if n in wanted)

    @property
    def memory_bound(self) -> float | None:
        """Largest allowed peak memory in bytes."""
        limit, baseline = self.max_memory, self.baseline_peak_memory_bytes
        return None if limit is None else limit.bytes(baseline)


class Evidence(BaseModel):
    """What the gate looks at: numbers of one measured file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    recipe_id: str
    """The recipe that was lowered."""
    latency_ratio: float
    """Latency over the baseline's, interleaved."""
    latency_ratio_high: float
    """Upper bound of the ratio's interval."""
    latency_seconds: float | None = None
    """Latency in the run that decides. None of a trial: what the machine was like when each of them
    was measured differs, and only their ratios can be compared."""
    latency_seconds_high: float | None = None
    """Upper bound of its interval."""
    drop: float
    """Loss of quality in the metric's unit."""
    drop_high: float
    """Upper bound of the drop's interval."""
    divergence: float
    """How far the outputs are from the dense model's: finer than a drop, needs no labels."""
    divergence_parts: tuple[float, ...] = ()
    """Its means over parts of the rows that select, which tell what a difference is worth; empty
    where an earlier version measured it."""
    compressed_layers: int
    """Layers that do not stay as they came: fewer is simpler."""
    size_bytes: int | None = None
    """Size of the file with what it needs; None where an earlier version measured it."""
    peak_memory_bytes: int | None = None
    """Peak memory of opening and running it; None where it was not measured."""

    @classmethod
    def of_baseline(cls, recipe_id: str, contract: Contract) -> Evidence:
        """Of the very file that came: it is what everything else is held against."""
        return cls(
            recipe_id=recipe_id, latency_ratio=1.0, latency_ratio_high=1.0, drop=0.0, drop_high=0.0,
            divergence=0.0, compressed_layers=0, size_bytes=contract.baseline_size_bytes,
            peak_memory_bytes=contract.baseline_peak_memory_bytes,
        )  # fmt: skip

    def held_ratio(self, contract: Contract) -> float:
        """The latency that is held against the bound: with `--strict`, its interval's upper end."""
        return self.latency_ratio_high if contract.strict else self.latency_ratio

    def held_drop(self, contract: Contract) -> float:
        """The loss of quality that is held against the bound."""
        return self.drop_high if contract.strict else self.drop

    def meets_budget(self, contract: Contract) -> bool:
        """Inside the latency bound, and never slower than the baseline.

        Only the baseline itself is as slow: a dense model that was lowered anew is another file.
        """
        inside = self.held_ratio(contract) <= min(contract.latency_ratio, 1.0)
        return inside and self._is_in_time(contract)

    def _is_in_time(self, contract: Contract) -> bool:
        """Whether a budget in time is kept in time, where the run that decides tells."""
        seconds = self.latency_seconds_high if contract.strict else self.latency_seconds
        return contract.budget.is_relative or seconds is None or seconds <= contract.bound_seconds

    def meets_drop(self, contract: Contract) -> bool:
        """Inside the allowed loss of quality."""
        # a drop is a difference of means: equal models may differ in the last bit
        return self.held_drop(contract) <= contract.allowed_drop() + 1e-12

    def is_further_than(self, nearest: Evidence) -> bool:
        """Whether the outputs are further from the dense model's, as far as the rows tell."""
        sure = is_surely_larger(self.divergence_parts, nearest.divergence_parts)
        return not self.divergence <= nearest.divergence if sure is None else sure

    def knows(self, contract: Contract) -> bool:
        """Whether every figure that the contract limits is there: an earlier version had none."""
        return (self.size_bytes is not None or contract.max_size is None) and (
            self.peak_memory_bytes is not None or contract.max_memory is None
        )

    def meets_limits(self, contract: Contract) -> bool:
        """Inside the limits of size and memory; what is limited and not known is outside."""
        return _keeps(self.size_bytes, contract.size_bound) and _keeps(
            self.peak_memory_bytes, contract.memory_bound
        )

    def missed(self, contract: Contract) -> tuple[Clause, ...]:
        """What of the contract does not hold; nothing where the file may be delivered."""
        holds: dict[Clause, bool] = {
            "latency": self.meets_budget(contract),
            "quality": self.meets_drop(contract),
            "size": _keeps(self.size_bytes, contract.size_bound),
            "memory": _keeps(self.peak_memory_bytes, contract.memory_bound),
        }
        return tuple(clause for clause, kept in holds.items() if not kept)

    def meets(self, contract: Contract) -> bool:
        """Inside every bound of the contract."""
        return not self.missed(contract)

    def violation(self, contract: Contract) -> float:
        """How far outside the contract, in shares of each bound; 0 inside."""
        late = max(0.0, self.held_ratio(contract) / min(contract.latency_ratio, 1.0) - 1.0)
        scale = max(contract.allowed_drop(), 1e-3)
        lossy = max(0.0, (self.held_drop(contract) - contract.allowed_drop()) / scale)
        large = max(0.0, share_over(self.size_bytes, contract.size_bound))
        hungry = max(0.0, share_over(self.peak_memory_bytes, contract.memory_bound))
        return late + lossy + large + hungry


def share_over(count: int | None, bound: float | None) -> float:
    """How far bytes are over a bound, in shares of it: negative inside, 0 where one is None."""
    return 0.0 if bound is None or count is None else count / bound - 1.0


def _keeps(count: int | None, bound: float | None) -> bool:
    return bound is None or (count is not None and count <= bound)


E = TypeVar("E", bound=Evidence)


def rank(evidence: Iterable[E], contract: Contract) -> list[E]:
    """Deliverable files, best first: most accurate, then faster, then simpler.

    Drops that lie within the best one's interval are not told apart by it: among those, the file
    whose outputs are nearest to the dense model's is the most accurate. Files that the rows do not
    tell from that one are as accurate: the fastest of them goes first, and of those that are as
    fast within its interval, the simplest. Everything is held against one file at a time, the best
    so far, and never in chains: being alike is not transitive.
    """
    inside = [e for e in evidence if e.meets(contract)]
    if not inside:
        return []
    best = min(inside, key=lambda e: e.drop)
    noise = best.drop_high - best.drop

    def lost(e: E) -> float:
        return max(0.0, e.drop - best.drop - noise)

    def by_divergence(e: E) -> tuple[float, ...]:
        # what is not a number is further than anything
        distance = inf if isnan(e.divergence) else e.divergence
        return lost(e), distance, e.latency_ratio, e.compressed_layers

    ordered = sorted(inside, key=by_divergence)
    nearest = ordered[0]
    tied = [e for e in ordered if not lost(e) and (e is nearest or not e.is_further_than(nearest))]
    fastest = min(tied, key=lambda e: e.latency_ratio)

    def by_speed(e: E) -> tuple[float, ...]:
        if e.latency_ratio <= fastest.latency_ratio_high:
            return 0.0, e.compressed_layers, e.latency_ratio
        return 1.0, e.latency_ratio, e.compressed_layers

    others = [e for e in ordered if all(e is not alike for alike in tied)]
    return [*sorted(tied, key=by_speed), *others]


def best_effort(evidence: Iterable[E], contract: Contract) -> E | None:
    """The file nearest to the contract among those no slower than the baseline.

    What keeps the limits of size and memory comes first: nothing else may be delivered.
    """
    near = [e for e in evidence if e.latency_ratio <= 1.0]
    kept = [e for e in near if e.meets_limits(contract)]
    return min(kept or near, key=lambda e: (e.violation(contract), e.drop), default=None)
