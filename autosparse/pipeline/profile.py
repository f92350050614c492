"""`autosparse profile`: where the time of the model as it came goes, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from autosparse.errors import DisturbedError, MeasurementError, ModelError
from autosparse.evaluation import ExecutedLayer, Measurement, TimingSettings
from autosparse.evaluation.backend import NodeTime
from autosparse.model_graph import ModelGraph
from autosparse.pipeline.config import ProfileConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.profiled_model import profiled_model
from autosparse.pipeline.stopwatch import BASELINE_LABEL


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LayerTime(_Record):
    """One layer of the model as it came."""

    layer: str
    """Its name."""
    operator: str
    """Conv, Gemm or MatMul."""
    weight_shape: tuple[int, ...]
    """Shape of the weight as the model stores it."""
    kernel: str
    """Operator that the runtime executes for it; empty where that is not known."""
    seconds: float | None
    """Its share of the measured latency; None where the runtime's graph does not show it."""
    share: float | None
    """The same as a fraction of the whole."""


class OperatorTime(_Record):
    """All executed nodes of one operator type that are no layers."""

    operator: str
    """Operator as the runtime executes it."""
    nodes: int
    """How many there are."""
    seconds: float
    """Their share of the measured latency."""
    share: float
    """The same as a fraction of the whole."""


class ModelProfile(_Record):
    """Where the time goes."""

    measurement: Measurement
    """The whole model, with every raw sample."""
    layers: tuple[LayerTime, ...]
    """In graph order."""
    rest: tuple[OperatorTime, ...]
    """Everything else, the slowest first."""
    inputs: str
    """Where the timed inputs come from, in words."""

    @property
    def seconds(self) -> float:
        """Median latency of one inference."""
        return self.measurement.percentile_seconds("p50")


def run_profile(config: ProfileConfig, engines: Engines) -> ModelProfile:
    """Time the model as it came, and divide its latency among its layers.

    Raises:
        UserInputError: the model, the target or the data cannot be used.
        DisturbedError: the machine is too noisy to time anything.
    """
    with profiled_model(config, engines) as model:
        engines.progress.stage("profile", "timing the model as it came")
        try:
            measured = model.stopwatch.measure({BASELINE_LABEL: model.original}, TimingSettings())
            times = model.stopwatch.divide(model.original, measured[BASELINE_LABEL])
            executed = engines.backend.executed_layers(model.original, model.graph)
        except DisturbedError:
            raise
        except MeasurementError as error:
            raise ModelError(
                f"{config.model.name} does not run: {error.message}",
                hint="check that it runs in ONNX Runtime with inputs of the target's shapes",
            ) from error
        return ModelProfile(
            measurement=measured[BASELINE_LABEL],
            layers=_layer_times(model.graph, executed, times),
            rest=_rest(executed, times),
            inputs=model.inputs_words,
        )


def _layer_times(
    graph: ModelGraph, executed: dict[str, ExecutedLayer], times: Sequence[NodeTime]
) -> tuple[LayerTime, ...]:
    seconds = {time.node: time.seconds for time in times}
    total = sum(seconds.values())
    found = []
    for layer in graph.layers:
        runs_as = executed.get(layer.name)
        mine = seconds.get(runs_as.node) if runs_as is not None else None
        found.append(
            LayerTime(
                layer=layer.name,
                operator=layer.operator,
                weight_shape=layer.weight_shape,
                kernel=runs_as.kernel if runs_as is not None else "",
                seconds=mine,
                share=mine / total if mine is not None and total > 0 else None,
            )
        )
    return tuple(found)


def _rest(
    executed: dict[str, ExecutedLayer], times: Sequence[NodeTime]
) -> tuple[OperatorTime, ...]:
    layers = {runs_as.node for runs_as in executed.values()}
    total = sum(time.seconds for time in times)
    others: dict[str, list[float]] = {}
    for time in times:
        if time.node not in layers:
            others.setdefault(time.operator, []).append(time.seconds)
    rest = [
        OperatorTime(
            operator=operator, nodes=len(taken), seconds=sum(taken),
            share=sum(taken) / total if total > 0 else 0.0,
        )
        for operator, taken in others.items()
    ]  # fmt: skip
    return tuple(sorted(rest, key=lambda own: -own.seconds))
