"""`solvers`: what each method that makes zeros leaves of a trained ResNet, with nothing trained.

All layers but the first and the last get the same pattern, then channels get their mean and
spread back. Every figure is a mean over draws of calibration images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from autosparse.calibration import LayerStatistics, StatisticsObserver
from autosparse.calibration.gradients import GradientObserver
from autosparse.evaluation import read_environment
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.methods import METHODS
from autosparse.model_graph import Layer, ModelGraph, load_model
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.recovery import StatisticsCorrection
from benchmarks.benchmark import Request
from benchmarks.cifar_models import Floats, Images, read_images
from benchmarks.guarded import guarded_rows
from benchmarks.intervals import interval_text
from benchmarks.model_files import ModelRequest, Sizes, asset
from benchmarks.rows import Row, ratio_of

# largest loss in points of top-1, for the best of the methods
BARS = {"unstructured@0.7:fp32": 4.0, "2:4:fp32": 2.5}
_OF_MAGNITUDES = 0.5
_CONTROL = "magnitude"
_MODELS = ("resnet20", "resnet56")
_CALIBRATION_ROWS, _CORRECTION_ROWS, _GRADIENT_ROWS = 512, 128, 128
_INPUT, _OUTPUT = "input", "logits"
Weights = Mapping[str, CompressedWeight]


@dataclass(frozen=True)
class SolverScale:
    """How much is measured."""

    models: tuple[str, ...] = _MODELS
    methods: tuple[str, ...] = ()
    """Empty for every method that makes the level."""
    draws: int = 3
    """Sets of calibration images."""
    validation: int = 2000
    """Images that top-1 is counted on."""


FULL = SolverScale()
QUICK = SolverScale(
    models=("resnet20",), methods=("magnitude", "sparsegpt", "alps"), draws=1, validation=500
)


class SolversBenchmark:
    """Every method that makes zeros, on every pattern that has a bar."""

    summary = "zeros without training, by every method, on ResNet-20 and ResNet-56"

    def rows(self, request: Request) -> Iterator[Row]:
        """Model after model; one that is missing is skipped and said."""
        scale = QUICK if request.quick else FULL
        environment = read_environment().id
        for name in request.models or scale.models:
            make = partial(_model_rows, request, scale, name, environment)
            yield from guarded_rows(request, environment, name, make)


def _model_rows(request: Request, scale: SolverScale, name: str, environment: str) -> Iterator[Row]:
    sizes = Sizes(_CALIBRATION_ROWS, scale.validation, held_out=0)
    files = ModelRequest(request.assets, request.directory, sizes)
    validation = read_images(asset(files, "data/cifar10_valid.npz"), slice(0, scale.validation))
    graph = load_model(asset(files, f"models/{name}.onnx"))
    makers = {level: scale.methods or zero_makers(level, graph.layers[1:-1]) for level in BARS}
    drops: dict[tuple[str, str], list[float]] = {}
    for draw in range(scale.draws):
        start = draw * _CALIBRATION_ROWS
        images = read_images(
            asset(files, "data/cifar10_train.npz"), slice(start, start + _CALIBRATION_ROWS)
        )
        study = Study.of(graph, images.images, validation)
        for level in BARS:
            for method in makers[level]:
                drops.setdefault((level, method), []).append(study.drop(level, method))
                request.say(f"{name}, {level}+{method}: {drops[level, method][-1]:.2f} points lost")
    for level in BARS:
        of_level = {method: drops[level, method] for method in makers[level]}
        yield from drop_rows(name, level, of_level, environment)


def zero_makers(level: str, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of the methods that make a level of one of the layers at least."""
    wanted = Level.parse(level)
    able = ((name, METHODS.load(name).why_not) for name in METHODS.names())
    return tuple(name for name, why_not in able if any(not why_not(la, wanted) for la in layers))


def drop_rows(
    model: str, level: str, drops: Mapping[str, Sequence[float]], environment: str
) -> Iterator[Row]:
    """A row for each method, the best one held against the bar.

    Args:
        model: its name.
        level: what all layers between the first and the last are at.
        drops: method -> points of top-1 that were lost, in every draw; the control among them.
        environment: where it was measured.
    """
    means = {method: fmean(values) for method, values in drops.items()}
    control, best = means[_CONTROL], min(means, key=lambda method: means[method])
    for method, values in drops.items():
        drop = means[method]
        gain = interval_text([a - b for a, b in zip(drops[_CONTROL], values, strict=True)], "draw")
        row = Row(
            what=f"{model}, {level}, {method}", figure=drop, unit="points of top-1 lost",
            opponent=_CONTROL, opponent_figure=control, ratio=ratio_of(drop, control),
            environment=environment,
            note=_draws(values) if method == _CONTROL else f"{_draws(values)}; gain: {gain}",
        )  # fmt: skip
        if method == best:
            holds = drop <= BARS[level] and drop <= _OF_MAGNITUDES * control
            bar = f"at most {BARS[level]} and {_OF_MAGNITUDES} of magnitude's"
            row = row.model_copy(update={"bar": bar, "holds": holds})
        yield row


def _draws(values: Sequence[float]) -> str:
    return "draws: " + ", ".join(f"{value:.2f}" for value in values)


@dataclass
class Study:
    """One model with one set of calibration images."""

    graph: ModelGraph
    statistics: Mapping[str, LayerStatistics]
    correction: StatisticsCorrection
    validation: Images
    dense: float = 0.0
    """Its top-1, in points."""
    _module: GraphModule = field(init=False)

    def __post_init__(self) -> None:
        self._module = GraphModule.from_graph(self.graph)
        self.dense = self.top1({})

    @classmethod
    def of(cls, graph: ModelGraph, images: Floats, held: Images) -> Study:
        """Collect every statistic that a method may ask for."""
        correction = StatisticsCorrection(graph, {_INPUT: images[:_CORRECTION_ROWS]})
        return cls(graph, collect(graph, images), correction, held)

    def drop(self, level: str, method: str) -> float:
        """Points of top-1 that are lost at a level, by a method, with the correction."""
        wanted = Level.parse(level)
        weights = {}
        for layer in self.graph.layers[1:-1]:
            matrix = torch.tensor(layer.to_matrix(self.graph.weight(layer)))
            if METHODS.load(method).why_not(layer, wanted) == "":
                weights[layer.name] = METHODS.load(method).compress(
                    layer, matrix, wanted, self.statistics[layer.name]
                )
        return self.dense - self.top1(self.correction.correct(weights, set(weights)))

    def top1(self, weights: Weights) -> float:
        """Top-1 on the validation images, in points."""
        for layer in self.graph.layers:
            made = weights.get(layer.name)
            stored = self.graph.weight(layer) if made is None else layer.from_matrix(made.values)
            self._module.set_layer_weight(layer.name, torch.tensor(stored))
            bias, own = self.graph.bias(layer), self._module.layer_bias(layer.name)
            if made is not None and made.bias is not None:
                bias = made.bias
            if own is not None and bias is not None:
                own.data.copy_(torch.tensor(bias))
        hits = 0
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(self.validation.labels)), 10):
                logits = self._module({_INPUT: torch.tensor(self.validation.images[rows])})[_OUTPUT]
                hits += int((logits.argmax(1).numpy() == self.validation.labels[rows]).sum())
        return 100 * hits / len(self.validation.labels)


def collect(graph: ModelGraph, images: Floats) -> dict[str, LayerStatistics]:
    """Layer -> everything that a method may ask for."""
    names = [layer.name for layer in graph.layers]
    observer = StatisticsObserver(graph, graph.layers, hessians=names)
    gradients = GradientObserver(graph, graph.layers, keep=names)
    module = GraphModule.from_graph(graph)
    watched = {name: partial(_observe, observer, name) for name in observer.tensors}
    with torch.no_grad():
        for rows in np.array_split(images, 8):
            module({_INPUT: torch.tensor(rows)}, observers=watched)
    for rows in np.array_split(images[:_GRADIENT_ROWS], 8):
        gradients.observe({_INPUT: rows})
    return {
        name: replace(
            observer.statistics(name),
            gradient_norms=gradients.gradient_norms(name),
            row_gradients=gradients.row_gradients(name),
        )
        for name in names
    }


def _observe(observer: StatisticsObserver, name: str, values: Tensor) -> None:
    observer.observe(name, values.numpy())
