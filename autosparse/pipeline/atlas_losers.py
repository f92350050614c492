"""What an atlas spares a job: sparse levels that it has measured as slower than dense ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autosparse.levels import Level
from autosparse.levels.atlas import AtlasCell
from autosparse.pipeline.job import Job
from autosparse.pipeline.known_atlas import KnownAtlas
from autosparse.pipeline.layer_choices import Choice


def without_losers(
    job: Job, choices: Sequence[Choice], known: KnownAtlas | None
) -> tuple[Choice, ...]:
    """The choices, those refused that the atlas of `--atlas` has measured as losers here."""
    if known is None:
        return tuple(choices)
    dense = _fastest_dense(choices, known)
    judged = [_judged(job, choice, known, dense) for choice in choices]
    refused = sum(new is not old for new, old in zip(judged, choices, strict=True))
    job.engines.progress.note(
        f"the atlas in {job.config.atlas} spares {refused} measurements of sparse levels"
    )
    return tuple(judged)


def _fastest_dense(choices: Sequence[Choice], known: KnownAtlas) -> dict[str, AtlasCell]:
    """Layer -> the fastest dense level that the search may choose for it."""
    found: dict[str, AtlasCell] = {}
    for choice in choices:
        name = choice.layer.name
        cell = known.find(name, choice.level)
        if choice.level.sparsity > 0 or not choice.searched or cell is None:
            continue
        if _seconds(cell) < _seconds(found.get(name)):
            found[name] = cell
    return found


def _judged(
    job: Job,
    choice: Choice,
    known: KnownAtlas,
    dense: Mapping[str, AtlasCell],
) -> Choice:
    name, level = choice.layer.name, choice.level
    cell = known.find(name, level)
    if level.sparsity == 0 or not choice.searched or cell is None or name not in dense:
        return choice
    if _is_lossless(job, choice, level):
        return choice  # it may be worth its time where the dense level loses accuracy
    if cell.seconds is None:
        reason = f"{name}: the atlas found that {level} is not what runs"
    elif cell.seconds >= _seconds(dense[name]):
        reason = (
            f"{name}: in the atlas {level.without_method()} takes {cell.seconds * 1e6:.1f} us, "
            f"and {dense[name].level} {_seconds(dense[name]) * 1e6:.1f} us"
        )
    else:
        return choice
    return replace(choice, runs=False, searched=False, reason=reason)


def _is_lossless(job: Job, choice: Choice, level: Level) -> bool:
    """Whether the model came with as many zeros as the level asks for."""
    weight = job.graph.weight(choice.layer)
    return int(np.count_nonzero(weight)) <= (1.0 - level.sparsity) * weight.size


def _seconds(cell: AtlasCell | None) -> float:
    return float("inf") if cell is None or cell.seconds is None else cell.seconds
