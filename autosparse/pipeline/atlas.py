"""`autosparse profile --atlas`: every level of every layer shape measured, and where zeros pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import torch
from pydantic import BaseModel, ConfigDict

from autosparse.artifacts.atlas_data import AtlasData, FileTime
from autosparse.artifacts.atlas_page import render_atlas
from autosparse.calibration import NO_STATISTICS, ActivationRanges
from autosparse.errors import CandidateError, MeasurementError, ModelError
from autosparse.evaluation import Comparison, ExecutedLayer, LoweringRequest
from autosparse.journal import Journal, stored_safely
from autosparse.levels import Level, Recipe
from autosparse.levels.atlas import Atlas, AtlasCell, LayerShape, Place
from autosparse.levels.break_even import AtlasEntry, LevelTime
from autosparse.levels.weights import CompressedWeight
from autosparse.methods import METHODS
from autosparse.pipeline.config import ProfileConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.layer_choices import Choice, layer_choices, usual_method
from autosparse.pipeline.layer_shapes import observe_layers, place_of
from autosparse.pipeline.profiled_model import ProfiledModel, profiled_model
from autosparse.pipeline.stopwatch import AttributedTime
from autosparse.pipeline.timed_cells import runs_at
from autosparse.pipeline.workspace import held, room_is_needed

PAGE_FILE, MEASUREMENTS_FILE = "atlas.html", "measurements.jsonl"
DENSE_LEVELS = tuple(Level.parse(text) for text in ("dense:fp32", "dense:int8", "dense:int4"))
SPARSE_LEVELS = tuple(
    Level.parse(text)
    for text in (
        *(f"unstructured@{share}:fp32" for share in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
        *(f"block1x4@{share}:int8" for share in (0.25, 0.5, 0.75, 0.9, 0.95)),
        "2:4:int8", "1:4:int8", "2:8:int8", "4:8:int8",
    )
)  # fmt: skip


class LevelMeasurement(BaseModel):
    """Raw samples of one level: all layers at it that can be, against the model as it came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: Place
    model_sha256: str
    level: Level
    layers: int
    comparison: Comparison


def run_atlas(config: ProfileConfig, engines: Engines) -> AtlasData:
    """Measure what is not known yet, and conclude for every layer shape of the model.

    Writes the journal and the page `atlas.html` in the atlas directory.

    Raises:
        UserInputError: the model, the data, the target or the directory cannot be used.
    """
    directory = config.output_dir.absolute()
    levels = tuple(level.without_method() for level in config.levels) or SPARSE_LEVELS
    with profiled_model(config, engines) as model:
        with stored_safely(directory):
            directory.mkdir(parents=True, exist_ok=True)
        with held(directory, directory), room_is_needed(directory):
            atlas = Atlas(directory, place_of(model.target, engines.lane.environment()))
            raw = Journal(directory / MEASUREMENTS_FILE, LevelMeasurement)
            builder = AtlasBuilder(model, atlas, raw, *_observed(model), fresh=config.fresh)
            data = builder.build(tuple(dict.fromkeys((*DENSE_LEVELS, *levels))))
            _write_page(directory / PAGE_FILE, data)
    return data


@dataclass
class AtlasBuilder:
    """What measuring the levels of one model shares."""

    model: ProfiledModel
    atlas: Atlas
    raw: Journal[LevelMeasurement]
    shapes: dict[str, LayerShape]
    """Layer name -> what its latency depends on."""
    ranges: ActivationRanges
    fresh: bool = False
    """Whether to measure again what is known."""
    _failed: dict[tuple[LayerShape, Level], str] = field(default_factory=dict)
    _measured: set[tuple[LayerShape, Level]] = field(default_factory=set)

    def build(self, levels: Sequence[Level]) -> AtlasData:
        """Measure every level that some layer shape lacks, and conclude."""
        model = self.model
        choices = layer_choices(
            model.graph, [_with_method(level) for level in levels], model.engines.backend,
            model.target, exclude=(), keep=(),
        )  # fmt: skip
        for number, level in enumerate(levels, start=1):
            own = [c for c in choices if c.level.without_method() == level]
            model.engines.progress.step(number, len(levels), str(level))
            self._measure(level, [c for c in own if c.searched])
        entries = self._entries(levels, choices)
        times = [t for entry in entries for t in entry.times if t.seconds is not None]
        return AtlasData(
            model=model.path.name,
            model_sha256=model.graph.sha256,
            target=model.target,
            environment=model.engines.lane.environment(),
            inputs=model.inputs_words,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            product=f"AutoSparse {version('autosparse')}",
            entries=entries,
            measured=sum(not t.reused for t in times),
            reused=sum(t.reused for t in times),
            files=self._files(levels),
        )

    def _files(self, levels: Sequence[Level]) -> tuple[FileTime, ...]:
        """The latest measurement of every level of this very model here."""
        latest = {
            record.level: record
            for record in self.raw.records
            if (record.place, record.model_sha256) == (self.atlas.place, self.model.graph.sha256)
        }
        return tuple(
            FileTime(
                level=level,
                layers=latest[level].layers,
                seconds=latest[level].comparison.candidate.percentile_seconds("p50"),
                ratio=latest[level].comparison.ratio("p50"),
            )
            for level in levels
            if level in latest
        )

    def _measure(self, level: Level, running: Sequence[Choice]) -> None:
        """Lower the model with every layer at the level that can take it, and time it once.

        What the runtime makes of a layer among its like is what decides whether the level is
        real. A failure is not stored: it may be the machine's, and another run may succeed.
        """
        missing = {
            self.shapes[c.layer.name]
            for c in running
            if self.fresh or self.atlas.find(self.shapes[c.layer.name], level) is None
        }
        if not missing:
            return
        progress = self.model.engines.progress
        progress.stage("atlas", f"{level}: {len(missing)} layer shapes")
        try:
            executed, timed = self._time_uniform(running)
        except CandidateError as error:
            progress.note(f"{level} could not be measured: {error}")
            self._failed.update({(shape, level): str(error) for shape in missing})
            return
        self.raw.append(
            LevelMeasurement(
                place=self.atlas.place,
                model_sha256=self.model.graph.sha256,
                level=level,
                layers=len(running),
                comparison=timed.comparison,
            )
        )
        for shape in missing:
            alike = [c for c in running if self.shapes[c.layer.name] == shape]
            self.atlas.put(self._cell(shape, alike, executed, timed))
            self._measured.add((shape, level))

    def _time_uniform(
        self, running: Sequence[Choice]
    ) -> tuple[dict[str, ExecutedLayer], AttributedTime]:
        model = self.model
        weights = {c.layer.name: self._compress(c) for c in running if c.level.method}
        levels = {c.layer.name: c.level for c in running}
        recipe = Recipe(
            model_sha256=model.graph.sha256,
            levels={la.name: levels.get(la.name, DENSE_LEVELS[0]) for la in model.graph.layers},
        )
        target = model.target
        request = LoweringRequest(
            model.graph, recipe, weights, self.ranges, target.architecture, target.input_shapes
        )
        uniform = model.engines.backend.lower(request, model.scratch / "uniform")
        executed = model.engines.backend.executed_layers(uniform, model.graph)
        return executed, model.stopwatch.attribute(uniform, model.original)

    def _compress(self, choice: Choice) -> CompressedWeight:
        """The plainest method: a latency depends on how many zeros there are, hardly on where."""
        layer, level = choice.layer, choice.level
        matrix = layer.to_matrix(self.model.graph.weight(layer))
        method = METHODS.load(usual_method(level))
        # a copy: the file's own arrays are read-only
        return method.compress(layer, torch.tensor(matrix), level, NO_STATISTICS)

    def _cell(
        self,
        shape: LayerShape,
        alike: Sequence[Choice],
        executed: dict[str, ExecutedLayer],
        timed: AttributedTime,
    ) -> AtlasCell:
        """The mean of the layers of one shape that the runtime really executes at the level."""
        level = alike[0].level.without_method()
        nodes = timed.seconds
        seconds: list[float] = []
        kernel, reason = "", ""
        for choice in alike:
            runs_as = executed.get(choice.layer.name)
            if runs_as is None or runs_as.node not in nodes:
                reason = (
                    f"{choice.layer.name}: the runtime's graph does not show what becomes of it"
                )
            elif not runs_at(level, runs_as):
                kernel = kernel or runs_as.kernel
                reason = (
                    f"{choice.layer.name}: the runtime executes {level} as {runs_as.kernel}, "
                    "no faster"
                )
            else:
                kernel = runs_as.kernel
                seconds.append(nodes[runs_as.node])
        return AtlasCell(
            place=self.atlas.place,
            shape=shape,
            level=level,
            seconds=fmean(seconds) if seconds else None,
            reason="" if seconds else reason,
            kernel=kernel,
            layers=max(len(seconds), 1),
            model_sha256=self.model.graph.sha256,
        )

    def _entries(
        self, levels: Sequence[Level], choices: Sequence[Choice]
    ) -> tuple[AtlasEntry, ...]:
        reasons: dict[tuple[LayerShape, Level], str] = {}
        names: dict[LayerShape, list[str]] = {}
        for layer, shape in self.shapes.items():
            names.setdefault(shape, []).append(layer)
        for choice in choices:
            key = (self.shapes[choice.layer.name], choice.level.without_method())
            # of layers of one shape, one that can take the level speaks for all
            if choice.searched:
                reasons[key] = ""
            reasons.setdefault(key, choice.reason)
        return tuple(
            AtlasEntry.of(
                shape, layers, [self._time(shape, lv, reasons[(shape, lv)]) for lv in levels]
            )
            for shape, layers in names.items()
        )

    def _time(self, shape: LayerShape, level: Level, reason: str) -> LevelTime:
        cell = self.atlas.find(shape, level)
        failed = self._failed.get((shape, level), "")
        # what was measured once does not count where the backend refuses the level by now
        if cell is None or reason or failed:
            return LevelTime(level=level, sparsity=level.sparsity, seconds=None,
                             reason=failed or reason)  # fmt: skip
        return LevelTime(
            level=level, sparsity=level.sparsity, seconds=cell.seconds, kernel=cell.kernel,
            reason=cell.reason, reused=(shape, level) not in self._measured,
        )  # fmt: skip


def _observed(model: ProfiledModel) -> tuple[dict[str, LayerShape], ActivationRanges]:
    """Shapes and ranges of the model's activations.

    Raises:
        ModelError: the runtime does not run the model.
    """
    try:
        return observe_layers(model.graph, model.engines.backend, model.inferences)
    except MeasurementError as error:
        raise ModelError(
            f"{model.path.name} does not run: {error.message}",
            hint="check that it runs in ONNX Runtime with inputs of the target's shapes",
        ) from error


def _with_method(level: Level) -> Level:
    if level.is_baseline:
        return level
    return level.model_copy(update={"method": usual_method(level)})


def _write_page(path: Path, data: AtlasData) -> None:
    partial = path.with_suffix(".partial")
    with stored_safely(path):
        partial.write_text(render_atlas(data), encoding="utf-8")
        partial.replace(path)
