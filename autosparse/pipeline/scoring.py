"""Scoring: what candidates and trials are asked that needs no clock, as tasks of a pool."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from autosparse.calibration import ActivationRanges
from autosparse.datasets import Dataset
from autosparse.evaluation import LoweredModel, Quality
from autosparse.evaluation.answers import Reference
from autosparse.evaluation.artifact_files import lowered_bytes
from autosparse.evaluation.metrics import Metric
from autosparse.evaluation.quality import compare_quality
from autosparse.evaluation.sample import Sample
from autosparse.evaluation.told_apart import parts_of
from autosparse.levels import Recipe
from autosparse.levels.table import LoadedWeights, WeightFiles
from autosparse.pipeline.lowering import Corrector, lower_recipe
from autosparse.pipeline.workshop import Workshop


@dataclass(frozen=True)
class ScoringKit:
    """Model, data and table: everything that scoring a recipe takes."""

    workshop: Workshop
    weights: WeightFiles | LoadedWeights
    ranges: ActivationRanges
    correction: Corrector | None
    sample: Sample
    """The rows of the sampling rung."""
    selecting: Dataset
    reference: Reference
    """The dense model on the rows that select."""
    metric: Metric

    @property
    def files(self) -> Path:
        """Where its scratch directories lie."""
        return self.workshop.files

    def at(self, files: Path) -> ScoringKit:
        """See `Kit.at`."""
        return replace(self, workshop=self.workshop.at(files))

    def loaded(self) -> ScoringKit:
        """See `Kit.loaded`."""
        answers = self.reference.answers.loaded()
        return replace(
            self, weights=self.weights.loaded(), sample=self.sample.loaded(),
            reference=replace(self.reference, answers=answers),
        )  # fmt: skip

    def lower(self, recipe: Recipe, name: str) -> LoweredModel:
        """The recipe's files, as they would be delivered."""
        return lower_recipe(self.workshop, self.weights, recipe, self.ranges, name, self.correction)


@dataclass(frozen=True)
class Sampled:
    """What the sampling rung tells of a recipe."""

    divergence: float
    """Of its outputs on the few rows; may be infinite or NaN."""
    size_bytes: int
    """Of its files."""


@dataclass(frozen=True)
class FewRows:
    """The sampling rung: a recipe on some of the rows."""

    recipe: Recipe

    def __call__(self, kit: ScoringKit, /) -> Sampled:
        """Lower, run, forget.

        Raises:
            CandidateError: the recipe cannot be lowered or run.
        """
        try:
            model = kit.lower(self.recipe, "sampled")
            size = lowered_bytes(model)
            divergence = kit.workshop.divergence(model, kit.sample)
        finally:
            shutil.rmtree(kit.workshop.files / "sampled", ignore_errors=True)
        return Sampled(divergence, size)


@dataclass(frozen=True)
class Score:
    """What all selecting rows tell of a recipe."""

    quality: Quality
    divergence: float
    divergence_parts: tuple[float, ...]
    """Its means over parts of the rows."""
    model: LoweredModel | None
    """The files, where they were kept for timing."""


@dataclass(frozen=True)
class AllRows:
    """The last rung without its timing: the metric on all selecting rows."""

    recipe: Recipe
    keep_in: Path | None = None
    """Where the lowered files are left, under the recipe's id; None to forget them."""

    def __call__(self, kit: ScoringKit, /) -> Score:
        """Lower, run, judge.

        Raises:
            CandidateError: the recipe cannot be lowered, run or judged.
        """
        own = kit if self.keep_in is None else kit.at(self.keep_in)
        try:
            model = own.lower(self.recipe, self.recipe.id)
            dense = own.reference.answers
            metrics = (own.metric, own.workshop.divergence_metric)
            mine, rows = own.workshop.scores(model, own.selecting, metrics, dense)
        finally:
            if self.keep_in is None:
                shutil.rmtree(own.workshop.files / self.recipe.id, ignore_errors=True)
        labels = own.selecting.labels
        quality = compare_quality(own.metric, mine, own.reference.scores, labels)
        kept = None if self.keep_in is None else model
        return Score(quality, float(rows.mean()), parts_of(rows), kept)
