"""Which layers of a file that does not run it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autosparse.pipeline.layer_choices import Choice


def to_blame(
    running: Sequence[Choice], why_not_alone: Callable[[Choice], str], error: str
) -> dict[str, str]:
    """Layer -> why it does not run: of those that do not run alone either.

    Where all of them run alone, or none, there is no telling which it is, and it is all.

    Args:
        running: the layers that are at their level in the file.
        why_not_alone: what a file with one of them fails with; empty where it runs.
        error: what the file with all of them fails with.
    """
    names = [choice.layer.name for choice in running]
    alone = {c.layer.name: reason for c in running if (reason := why_not_alone(c))}
    return alone if 0 < len(alone) < len(names) else dict.fromkeys(names, error)
