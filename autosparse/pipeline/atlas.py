"""`autosparse profile --atlas`: every level of every layer shape measured, and where zeros pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from autosparse.artifacts.atlas_data import AtlasData, FileTime
from autosparse.artifacts.atlas_page import render_atlas
from autosparse.calibration import ActivationRanges
from autosparse.errors import CandidateError, MeasurementError, ModelError
from autosparse.evaluation import Comparison, ExecutedLayer, LoweredModel, LoweringRequest
from autosparse.journal import Journal, stored_safely
from autosparse.levels import Level, Recipe
from autosparse.levels.atlas import Atlas, AtlasCell, LayerShape, Place, Tuning
from autosparse.levels.break_even import AtlasEntry, LevelTime
from autosparse.pipeline.atlas_levels import DENSE_LEVELS, SPARSE_LEVELS
from autosparse.pipeline.blame import to_blame
from autosparse.pipeline.config import ProfileConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.layer_choices import Choice, layer_choices, usual_method
from autosparse.pipeline.layer_shapes import observe_layers, place_of
from autosparse.pipeline.plan_tuning import (
    PLANS_FILE,
    PlanMeasurement,
    PlanTuner,
    plainly_compressed,
)
from autosparse.pipeline.profiled_model import ProfiledModel, profiled_model
from autosparse.pipeline.stopwatch import AttributedTime
from autosparse.pipeline.timed_cells import runs_at
from autosparse.pipeline.workspace import held, room_is_needed

PAGE_FILE, MEASUREMENTS_FILE = "atlas.html", "measurements.jsonl"


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
            tuner = None
            if config.plans:
                tried = Journal(directory / PLANS_FILE, PlanMeasurement)
                tuner = PlanTuner(model, atlas.place, tried)
            builder = AtlasBuilder(model, atlas, raw, *_observed(model), config.fresh, tuner)
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
    tuner: PlanTuner | None = None
    """What tries other plans; None where that is not asked for."""
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
        tunings: Mapping[LayerShape, Tuning] = self._tunings(level, running)
        shapes = {self.shapes[choice.layer.name] for choice in running}
        missing = {s for s in shapes if self._must_be_timed(s, level, tunings.get(s))}
        for shape in tunings.keys() - missing:
            self._keep(shape, level, tunings[shape])
        if not missing:
            return
        self.model.engines.progress.stage("atlas", f"{level}: {len(missing)} layer shapes")
        self._time_missing(level, running, tunings, missing)

    def _time_missing(
        self, level: Level, running: Sequence[Choice], tunings: Mapping[LayerShape, Tuning],
        missing: AbstractSet[LayerShape],
    ) -> None:  # fmt: skip
        """What does not run is left out, where it can be told, so that the others have a time."""
        try:
            paying = self._paying(running, tunings)
            executed, timed = self._time_uniform(running, paying)
        except CandidateError as error:
            blamed = to_blame(running, lambda c: self._why_not_alone(c, tunings), str(error))
            able = [c for c in running if c.layer.name not in blamed]
            left = missing & {self.shapes[c.layer.name] for c in able}
            of = f" for {', '.join(blamed)}" if able else ""
            self.model.engines.progress.note(f"{level} could not be measured{of}: {error}")
            for name, reason in blamed.items():  # of a shape, one layer that runs speaks for all
                if self.shapes[name] in missing - left:
                    self._failed[(self.shapes[name], level)] = reason
            if left:
                self._time_missing(level, able, tunings, left)
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
            cell = self._cell(shape, alike, executed, timed)
            self.atlas.put(cell.model_copy(update={"tuning": self._tuning(shape, level, paying)}))
            self._measured.add((shape, level))

    def _why_not_alone(self, choice: Choice, tunings: Mapping[LayerShape, Tuning]) -> str:
        """What a file with only this layer at its level fails with; empty where it runs."""
        try:
            alone = self._lower([choice], tunings, "alone")
            self.model.engines.backend.executed_layers(alone, self.model.graph)
        except CandidateError as error:
            return str(error)
        return ""

    def _must_be_timed(self, shape: LayerShape, level: Level, tuning: Tuning | None) -> bool:
        """Not where the usual plan stays: then what was measured with it stays, too."""
        cell = self.atlas.find(shape, level)
        return self.fresh or cell is None or (tuning is not None and tuning.plan != cell.plan)

    def _keep(self, shape: LayerShape, level: Level, tuning: Tuning) -> None:
        """Store that trying plans changed nothing for a cell that is known."""
        cell = self.atlas.find(shape, level)
        if cell is not None:
            self.atlas.put(cell.model_copy(update={"tuning": tuning}))

    def _tunings(self, level: Level, running: Sequence[Choice]) -> dict[LayerShape, Tuning]:
        """What trying plans comes to, of every shape of which that is not known."""
        if self.tuner is None:
            return {}
        found: dict[LayerShape, Tuning] = {}
        progress = self.model.engines.progress
        for shape, choice in {self.shapes[c.layer.name]: c for c in running}.items():
            plans = self.model.engines.backend.plans(choice.layer, level)
            cell = self.atlas.find(shape, level)
            known = cell is not None and (cell.tuning is not None or cell.seconds is None)
            if not plans or (known and not self.fresh):
                continue
            progress.stage("plans", f"{level}: {shape.title}")
            try:
                tuning = self.tuner.tune(choice, shape, plans)
            except (CandidateError, ModelError) as error:
                progress.note(f"plans of {level} could not be tried for {shape.title}: {error}")
                continue
            if tuning is not None:
                found[shape] = tuning
        return found

    def _paying(
        self, running: Sequence[Choice], tunings: Mapping[LayerShape, Tuning]
    ) -> Mapping[LayerShape, Tuning]:
        """The plans that were found, or the usual ones where those do not make a file faster."""
        if self.tuner is None or not any(tuning.plan for tuning in tunings.values()):
            return tunings
        usual, planned = self._lower(running, {}, "usual"), self._lower(running, tunings, "planned")
        if self.tuner.pay_together(usual, planned):
            return tunings
        self.model.engines.progress.note(
            f"{running[0].level.without_method()}: plans that are faster for layers alone make the "
            "whole model no faster, and are not used"
        )
        return {shape: tuning.as_usual() for shape, tuning in tunings.items()}

    def _tuning(
        self, shape: LayerShape, level: Level, tunings: Mapping[LayerShape, Tuning]
    ) -> Tuning | None:
        """What was found now, else what is known."""
        cell = self.atlas.find(shape, level)
        return tunings.get(shape) or (None if cell is None else cell.tuning)

    def _time_uniform(
        self, running: Sequence[Choice], tunings: Mapping[LayerShape, Tuning]
    ) -> tuple[dict[str, ExecutedLayer], AttributedTime]:
        model = self.model
        uniform = self._lower(running, tunings, "uniform")
        executed = model.engines.backend.executed_layers(uniform, model.graph)
        return executed, model.stopwatch.attribute(uniform, model.original)

    def _lower(
        self, running: Sequence[Choice], tunings: Mapping[LayerShape, Tuning], name: str
    ) -> LoweredModel:
        """The model with these layers at their level, each by its plan."""
        model, target = self.model, self.model.target
        weights = {
            c.layer.name: plainly_compressed(model.graph, c) for c in running if c.level.method
        }
        levels = {c.layer.name: c.level for c in running}
        recipe = Recipe(
            model_sha256=model.graph.sha256,
            levels={la.name: levels.get(la.name, DENSE_LEVELS[0]) for la in model.graph.layers},
        )
        request = LoweringRequest(
            model.graph, recipe, weights, self.ranges, target.architecture, target.input_shapes,
            plans=dict(self._plans(running, tunings)),
        )  # fmt: skip
        return model.engines.backend.lower(request, model.scratch / name)

    def _plans(
        self, running: Sequence[Choice], tunings: Mapping[LayerShape, Tuning]
    ) -> Iterator[tuple[str, str]]:
        """(layer, plan) of the layers that are not computed as usual."""
        for choice in running:
            layer, level = choice.layer, choice.level
            tuning = self._tuning(self.shapes[layer.name], level, tunings)
            if tuning is not None and tuning.plan in self.model.engines.backend.plans(layer, level):
                yield layer.name, tuning.plan

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
            reason=cell.reason, reused=(shape, level) not in self._measured, plan=cell.plan,
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
