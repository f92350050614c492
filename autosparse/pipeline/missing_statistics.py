"""Levels whose methods read what is not to be had: they are refused before anything is made.

Gradients come from torch, and there are none where it does not compute what the runtime does. A
Hessian that has no room in memory even alone cannot be collected. Refused late, by the method,
such a level would have been timed for nothing, and might have passed for a way into the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autosparse.evaluation.budget import byte_words
from autosparse.heap import free_memory, return_freed_memory
from autosparse.pipeline.calibrate import FROM_GRADIENTS
from autosparse.pipeline.hessian_room import WORKING, too_large
from autosparse.pipeline.job import Job
from autosparse.pipeline.layer_choices import Choice, shared, statistics_read
from autosparse.pipeline.parity import Parity


def with_statistics(job: Job, choices: Sequence[Choice], parity: Parity) -> tuple[Choice, ...]:
    """The choices, those refused whose methods read what is not to be had.

    Args:
        job: what all stages share.
        choices: which levels are there.
        parity: whether torch computes what the runtime does.
    """
    reading = {c.layer.name: c.layer for c in choices if "hessian" in statistics_read(c)}
    return_freed_memory()  # of the comparison with torch
    free = free_memory()
    refusal = _Refusal(parity, too_large(job.graph, reading.values(), free), free)
    if refusal.large:
        job.engines.progress.note(refusal.of_large_ones())
    return shared([refusal.judged(choice) for choice in choices], job.groups)


@dataclass(frozen=True)
class _Refusal:
    """What there is not, and why."""

    parity: Parity
    large: dict[str, int]
    """Layer -> bytes of its Hessian, where that has no room."""
    free: int
    """Bytes of memory."""

    def judged(self, choice: Choice) -> Choice:
        """The choice, or its refusal."""
        reason = self._why(choice)
        if not reason:
            return choice
        # a choice that is not searched for another reason keeps that one
        told = choice.reason or f"{choice.layer.name}: {choice.level.method} reads {reason}"
        return replace(choice, runs=False, searched=False, reason=told)

    def of_large_ones(self) -> str:
        """A sentence for whoever watches."""
        names = sorted(self.large, key=lambda name: -self.large[name])
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return (
            f"levels whose methods read a Hessian are refused for {names[0]}{others}: "
            f"{self._sizes(names[0])}"
        )

    def _why(self, choice: Choice) -> str:
        needs, name = statistics_read(choice), choice.layer.name
        if FROM_GRADIENTS & needs and not self.parity.holds:
            return f"gradients of the model, and {self.parity.note}"
        if "hessian" in needs and name in self.large:
            return f"a Hessian of its inputs: {self._sizes(name)}"
        return ""

    def _sizes(self, layer: str) -> str:
        taken = self.large[layer]
        own, made = byte_words(taken, " "), byte_words(WORKING * taken, " ")
        return (
            f"it takes {own}, what is made of it up to {made}, and {byte_words(self.free, ' ')} of "
            "memory are free"
        )
