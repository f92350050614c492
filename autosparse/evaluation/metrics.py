"""Metrics: how good outputs are, row by row, so that two models can be compared in pairs.

Without labels, quality is the divergence from the dense model's own outputs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autosparse.errors import ConfigError, DataError
from autosparse.evaluation.scores import (
    Array,
    Floats,
    Outputs,
    cosine,
    cross_entropy,
    kl,
    mae,
    mean,
    mean_over_labels,
    rank_correlation,
    relative_error,
    root_of_mean,
    squared_error,
    top1,
    top5,
    undecidedness,
)

__all__ = ["BUILT_IN", "Floats", "Metric", "Outputs", "default_metric", "load_metric"]


@dataclass(frozen=True)
class Metric:
    """One way to judge outputs.

    `score` gives a value for every row: (candidate outputs, dense model's outputs, labels) ->
    (rows,). `aggregate` turns the rows' scores into the metric's value: the mean, unless the
    metric is a root or a rank correlation.
    """

    name: str
    summary: str
    needs_labels: bool
    higher_is_better: bool
    score: Callable[[Outputs, Outputs, Array | None], Floats]
    aggregate: Callable[[Floats, Array | None], float]
    in_unit_interval: bool = False
    """Whether a drop can be given in percentage points: its values lie in [0, 1], or nearly so."""
    needs_pairs: bool = False
    """Whether it compares the answers to the two halves of pairs."""
    judges_rows_apart: bool = True
    """Whether the score of a row depends on that row alone, so that batches can be judged one by
    one. The user's own function is promised all rows at once."""

    sensitivity: Callable[[Outputs], Floats] | None = None
    """The dense model's outputs -> (rows,): how much each row's score is expected to move, in any
    unit. None where nothing is known of it."""

    @property
    def is_divergence(self) -> bool:
        """Whether it is a distance from the dense model, which itself has none."""
        return self.score in (kl, relative_error)

    @property
    def is_mean(self) -> bool:
        """Whether the value is the mean of the rows' scores."""
        return self.aggregate is mean

    @property
    def weighs_labels(self) -> bool:
        """Whether the value is a mean over labels, of which a row may have none."""
        return self.aggregate is mean_over_labels

    def value(self, outputs: Outputs, dense: Outputs, labels: Array | None) -> float:
        """The metric over all rows."""
        return self.aggregate(self.score(outputs, dense, labels), labels)


_BUILT_IN = (
    Metric("top1", "share of rows whose highest output is the label", True, True, top1, mean,
           in_unit_interval=True),
    Metric("top5", "share of rows whose label is among the five highest outputs", True, True,
           top5, mean, in_unit_interval=True),
    Metric("cross_entropy", "cross-entropy per label in nats; its exponential is the perplexity",
           True, False, cross_entropy, mean_over_labels),
    Metric("mae", "mean absolute error against the labels", True, False, mae, mean),
    Metric("rmse", "root of the mean squared error against the labels", True, False,
           squared_error, root_of_mean),
    Metric("spearman", "rank correlation of the cosine of each pair's answers with its score",
           True, True, cosine, rank_correlation, in_unit_interval=True, needs_pairs=True),
    Metric("kl", "KL divergence from the dense model's softmax, in nats", False, False, kl, mean,
           sensitivity=undecidedness),
    Metric("relative_error", "squared error against the dense outputs, relative to their norm",
           False, False, relative_error, mean),
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
    # the console script does not look where it is started, and that is where people keep theirs
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        # importing runs a module of the user's, and what that raises is anybody's guess; whatever
        # it is, the metric that was asked for is not there, and the cause stays chained
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

    return Metric(
        spelling, "given by the user", needs_labels=False, higher_is_better=True, score=score,
        aggregate=mean, judges_rows_apart=False,
    )  # fmt: skip


def metric_source(spelling: str) -> Path | None:
    """The file of a metric of the user's own that was loaded; None for a built-in one."""
    module = sys.modules.get(spelling.partition(":")[0])
    path = getattr(module, "__file__", None)
    return None if spelling in BUILT_IN or path is None else Path(path)


def default_metric(
    output_names: tuple[str, ...],
    *,
    labelled: bool,
    continuous: bool = False,
    paired: bool = False,
) -> Metric:
    """Return the metric for data that came without one.

    Args:
        output_names: of the model.
        labelled: whether the data tell what is true; else the divergence from the dense model
            is judged: KL where the outputs are logits by name, else the relative error.
        continuous: whether the labels are numbers, and no classes.
        paired: whether the rows are pairs.
    """
    if labelled:
        return BUILT_IN["spearman" if paired else "rmse" if continuous else "top1"]
    logits = all("logit" in name.lower() for name in output_names)
    return BUILT_IN["kl" if logits else "relative_error"]
