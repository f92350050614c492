"""Metrics: how good outputs are, row by row, so that two models can be compared in pairs.

Without labels, quality is the divergence from the dense model's own outputs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosparse.errors import ConfigError, DataError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outputs:
    """What a model answered on a data set: output name -> (rows, ...), in the graph's order."""

    values: Mapping[str, Array]
    pair_values: Mapping[str, Array] | None = None
    """Answers to the second halves of pairs, where the data are pairs."""

    @property
    def first(self) -> Floats:
        """The first output as (rows, -1) float64."""
        array = next(iter(self.values.values()))
        return array.reshape(len(array), -1).astype(np.float64)


@dataclass(frozen=True)
class Metric:
    """One way to judge outputs.

    `score` gives a value for every row: (candidate outputs, dense model's outputs, labels) ->
    (rows,). `aggregate` turns the rows' scores into the metric's value (the mean, unless the
    metric is a rank correlation or alike).
    """

    name: str
    summary: str
    needs_labels: bool
    higher_is_better: bool
    score: Callable[[Outputs, Outputs, Array | None], Floats]
    aggregate: Callable[[Floats, Array | None], float]
    in_unit_interval: bool = False
    """Whether its values lie in [0, 1], so that a drop can be given in percentage points."""

    @property
    def is_mean(self) -> bool:
        """Whether the value is the mean of the rows' scores."""
        return self.aggregate is _mean

    def value(self, outputs: Outputs, dense: Outputs, labels: Array | None) -> float:
        """The metric over all rows."""
        return self.aggregate(self.score(outputs, dense, labels), labels)


def _mean(scores: Floats, labels: Array | None) -> float:
    return float(scores.mean())


def _top1(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    logits = outputs.first
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            "top1 needs labels of shape (rows,) with class indices",
            hint="save them as labels=... in the validation file, or choose another --metric",
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise DataError(
            f"labels reach from {labels.min()} to {labels.max()}, the model's first output has "
            f"{logits.shape[1]} classes"
        )
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _kl(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """KL(dense || candidate) in nats, summed over classes, averaged over positions."""
    rows = []
    for name, reference in dense.values.items():
        theirs = _log_softmax(reference.astype(np.float64))
        mine = _log_softmax(outputs.values[name].astype(np.float64))
        divergence = (np.exp(theirs) * (theirs - mine)).sum(axis=-1)
        rows.append(divergence.reshape(len(reference), -1).mean(axis=1))
    return np.asarray(np.mean(rows, axis=0))


def _relative_error(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """Squared distance from the dense outputs over their squared norm, per row."""
    rows = []
    for name, reference in dense.values.items():
        theirs = reference.reshape(len(reference), -1).astype(np.float64)
        mine = outputs.values[name].reshape(len(reference), -1).astype(np.float64)
        norm = np.maximum((theirs**2).sum(axis=1), np.finfo(np.float64).tiny)
        rows.append(((mine - theirs) ** 2).sum(axis=1) / norm)
    return np.asarray(np.mean(rows, axis=0))


_BUILT_IN = (
    Metric("top1", "share of rows whose highest output is the label", True, True, _top1, _mean,
           in_unit_interval=True),
    Metric("kl", "KL divergence from the dense model's softmax, in nats", False, False, _kl, _mean),
    Metric("relative_error", "squared error against the dense outputs, relative to their norm",
           False, False, _relative_error, _mean),
)  # fmt: skip
BUILT_IN: Mapping[str, Metric] = {metric.name: metric for metric in _BUILT_IN}


def load_metric(spelling: str) -> Metric:
    """Return a built-in metric, or the user's own from `module:callable`.

    The user's callable takes (outputs by name, labels) and returns one score per row, higher is
    better, as (rows,).

    Raises:
        ConfigError: no such metric, or the callable cannot be imported.
    """
    if spelling in BUILT_IN:
        return BUILT_IN[spelling]
    module_name, colon, attribute = spelling.partition(":")
    if not colon:
        raise ConfigError(
            f"no metric is called {spelling!r}",
            hint=f"known: {', '.join(BUILT_IN)}, or module:callable of your own",
        )
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # importing runs the user's own code
        raise ConfigError(f"the metric {spelling!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ConfigError(f"the metric {spelling!r} is no function")

    def score(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
        scores = np.asarray(function(dict(outputs.values), labels), dtype=np.float64)
        rows = len(next(iter(outputs.values.values())))
        if scores.shape != (rows,):
            raise DataError(
                f"the metric {spelling!r} returned the shape {scores.shape}, expected ({rows},)"
            )
        return scores

    return Metric(spelling, "given by the user", False, True, score, _mean)


def default_metric(output_names: tuple[str, ...], *, labelled: bool) -> Metric:
    """`top1` with labels; else KL where the outputs are logits by name, else relative error."""
    if labelled:
        return BUILT_IN["top1"]
    logits = all("logit" in name.lower() for name in output_names)
    return BUILT_IN["kl" if logits else "relative_error"]
