"""The models that the `job` benchmark runs on, and how much of everything it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.cifar_models import mobilenet, resnet
from benchmarks.model_files import ModelBuilder, Sizes
from benchmarks.transformer_models import decoder, minilm, vit

_IMAGES = Sizes(calibration=512, validation=3000, held_out=2000)
_TOKENS = Sizes(calibration=256, validation=600, held_out=600)


@dataclass(frozen=True)
class ModelSource:
    """How to get one model."""

    build: ModelBuilder
    sizes: Sizes


# The first three are trained and known; nothing was ever tuned on the last three.
MODELS: Mapping[str, ModelSource] = {
    "resnet20": ModelSource(partial(resnet, depth=20), _IMAGES),
    "resnet56": ModelSource(partial(resnet, depth=56), _IMAGES),
    "minilm": ModelSource(minilm, _TOKENS),
    "mobilenet": ModelSource(mobilenet, _IMAGES),
    "vit": ModelSource(vit, _IMAGES),
    "decoder": ModelSource(decoder, _TOKENS),
}


@dataclass(frozen=True)
class Scale:
    """How much of everything one run takes."""

    models: tuple[str, ...]
    budgets: tuple[str, ...]
    """Besides the fastest reachable one."""
    trials: int
    """Of every job."""
    base_seconds: float
    """Time limit of the job that builds the level table."""
    search_seconds: float
    """Time limit of every job that searches on it."""
    unseen_recipes: int
    """That the predictor is judged on."""
    sizes: Sizes | None
    """In place of the models' own."""
    whole_job_memory: tuple[str, ...]
    """Models whose memory is sampled over a whole job, not only with a few trials."""
    deadline_seconds: float
    """No cell is begun after this."""


FULL = Scale(
    models=tuple(MODELS),
    budgets=("90%", "80%", "70%", "60%"),
    trials=40,
    base_seconds=3600.0,
    search_seconds=420.0,
    unseen_recipes=40,
    sizes=None,
    whole_job_memory=("resnet20", "minilm"),
    deadline_seconds=float("inf"),
)
QUICK = Scale(
    models=("resnet20",),
    budgets=("80%", "60%"),
    trials=12,
    base_seconds=600.0,
    search_seconds=40.0,
    unseen_recipes=16,
    sizes=Sizes(calibration=256, validation=1024, held_out=2000),
    whole_job_memory=(),
    deadline_seconds=225.0,
)
