"""The atlas that a job is given, and which of its shapes the model's layers have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autosparse.errors import CandidateError, ConfigError
from autosparse.evaluation import Target
from autosparse.levels import Level
from autosparse.levels.atlas import ATLAS_FILE, Atlas, AtlasCell, LayerShape
from autosparse.pipeline.job import Job
from autosparse.pipeline.layer_shapes import observe_layers, place_of
from autosparse.pipeline.workspace import held


@dataclass(frozen=True)
class KnownAtlas:
    """What was measured in this place, by layer."""

    atlas: Atlas
    shapes: Mapping[str, LayerShape]
    """Layer name -> what its latency depends on."""

    def find(self, layer: str, level: Level) -> AtlasCell | None:
        """What was measured of layers like this one, or None; methods make no difference."""
        return self.atlas.find(self.shapes[layer], level)


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


def known_atlas(job: Job) -> KnownAtlas | None:
    """The atlas of `--atlas`; None where none is given or it knows nothing of this place.

    Raises:
        ConfigError: there is no atlas in the directory.
        StorageError: it is damaged, or another process is writing it.
    """
    directory = job.config.atlas
    if directory is None:
        return None
    check_atlas(job)
    progress = job.engines.progress
    with held(directory, directory):
        atlas = Atlas(directory, place_of(job.target, job.engines.lane.environment()))
    if len(atlas) == 0:
        progress.note(
            f"the atlas in {directory} knows nothing of this environment and target "
            f"({_words(job.target)})"
        )
        return None
    try:
        with np.load(job.workspace.inputs) as stored:
            inference = dict(stored)
        shapes, _ = observe_layers(job.graph, job.engines.backend, [inference])
    except CandidateError as error:
        progress.note(f"the atlas is not used: {error}")
        return None
    return KnownAtlas(atlas, shapes)


def _words(target: Target) -> str:
    return f"{target.name}, {target.backend}, threads {target.threads}"
