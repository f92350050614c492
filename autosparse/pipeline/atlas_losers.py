"""What an atlas spares a job: sparse levels that it has measured as slower than dense ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autosparse.errors import CandidateError, ConfigError
from autosparse.evaluation import Target
from autosparse.levels import Level
from autosparse.levels.atlas import ATLAS_FILE, Atlas, AtlasCell, LayerShape
from autosparse.pipeline.job import Job
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.layer_shapes import observe_layers, place_of
from autosparse.pipeline.workspace import held


def without_losers(job: Job, choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices, those refused that the atlas of `--atlas` has measured as losers here.

    Raises:
        ConfigError: there is no atlas in the directory.
        StorageError: it is damaged, or another process is writing it.
    """
    atlas = _open(job)
    if atlas is None or len(atlas) == 0:
        return tuple(choices)
    try:
        with np.load(job.workspace.inputs) as stored:
            inference = dict(stored)
        shapes, _ = observe_layers(job.graph, job.engines.backend, [inference])
    except CandidateError as error:
        job.engines.progress.note(f"the atlas is not used: {error}")
        return tuple(choices)
    dense = _fastest_dense(choices, atlas, shapes)
    judged = [_judged(job, choice, atlas, shapes, dense) for choice in choices]
    refused = sum(new is not old for new, old in zip(judged, choices, strict=True))
    job.engines.progress.note(
        f"the atlas in {job.config.atlas} spares {refused} measurements of sparse levels"
    )
    return tuple(judged)


def check_atlas(job: Job) -> None:
    """Tell of a directory without an atlas before anything is measured.

    Raises:
        ConfigError: there is none.
    """
    directory = job.config.atlas
    if directory is not None and not (directory / ATLAS_FILE).is_file():
        raise ConfigError(
            f"there is no atlas in {directory}",
            hint=f"autosparse profile MODEL --atlas --output-dir {directory} measures one",
        )


def _open(job: Job) -> Atlas | None:
    if job.config.atlas is None:
        return None
    check_atlas(job)
    directory = job.config.atlas
    with held(directory, directory):
        atlas = Atlas(directory, place_of(job.target, job.engines.lane.environment()))
    if len(atlas) == 0:
        job.engines.progress.note(
            f"the atlas in {directory} knows nothing of this environment and target "
            f"({_words(job.target)})"
        )
    return atlas


def _words(target: Target) -> str:
    return f"{target.name}, {target.backend}, threads {target.threads}"


def _fastest_dense(
    choices: Sequence[Choice], atlas: Atlas, shapes: Mapping[str, LayerShape]
) -> dict[str, AtlasCell]:
    """Layer -> the fastest dense level that the search may choose for it."""
    found: dict[str, AtlasCell] = {}
    for choice in choices:
        name = choice.layer.name
        cell = atlas.find(shapes[name], choice.level)
        if choice.level.sparsity > 0 or not choice.searched or cell is None:
            continue
        if _seconds(cell) < _seconds(found.get(name)):
            found[name] = cell
    return found


def _judged(
    job: Job,
    choice: Choice,
    atlas: Atlas,
    shapes: Mapping[str, LayerShape],
    dense: Mapping[str, AtlasCell],
) -> Choice:
    name, level = choice.layer.name, choice.level
    cell = atlas.find(shapes[name], level)
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
