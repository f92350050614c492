"""What metrics are made of: a score for every row, and how scores become one value.

A score is a function of (outputs, the dense model's outputs, labels) -> (rows,), in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from autosparse.errors import DataError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

IGNORED_LABEL = -100
"""Marks a position of a sequence that has no label, as in torch."""
# Outputs are judged in float64 this many elements at a time: vocabularies are large.
_BLOCK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Outputs:
    """What a model answered on a data set: output name -> (rows, ...), in the graph's order."""

    values: Mapping[str, Array]
    pair_values: Mapping[str, Array] | None = None
    """Answers to the second halves of pairs, where the data are pairs."""

    @property
    def first(self) -> Floats:
        """The first output as (rows, -1) float64."""
        return _as_matrix(next(iter(self.values.values())))

    def rows(self, chosen: slice) -> Outputs:
        """The answers to some rows."""
        pairs = self.pair_values
        return Outputs(
            {name: values[chosen] for name, values in self.values.items()},
            None if pairs is None else {name: values[chosen] for name, values in pairs.items()},
        )

    def loaded(self) -> Outputs:
        """Themselves: see `autosparse.evaluation.answers.Answers`."""
        return self


def mean(scores: Floats, labels: Array | None) -> float:
    """Mean over rows."""
    return float(scores.mean())


def root_of_mean(scores: Floats, labels: Array | None) -> float:
    """Root of the mean over rows: scores are squares."""
    return float(np.sqrt(scores.mean()))


def mean_over_labels(scores: Floats, labels: Array | None) -> float:
    """Mean over every label that counts: a row weighs as much as it has of them."""
    counted = np.asarray(labels).reshape(len(scores), -1) != IGNORED_LABEL
    weights = counted.sum(axis=1)
    return float((scores * weights).sum() / max(int(weights.sum()), 1))


def check_some_count(labels: Array) -> None:
    """Make sure that a mean over labels is one of any.

    Raises:
        DataError: every label says that there is none.
    """
    if not (labels != IGNORED_LABEL).any():
        raise DataError(f"every label is {IGNORED_LABEL}, which means that there is none")


def rank_correlation(scores: Floats, labels: Array | None) -> float:
    """Spearman's rho, ties at their mean rank; 0 where either side does not vary."""
    mine, theirs = (rankdata(side) - (len(scores) + 1) / 2 for side in (scores, labels))
    norm = float(np.sqrt((mine**2).sum() * (theirs**2).sum()))
    return float((mine * theirs).sum()) / norm if norm else 0.0


def _as_matrix(array: Array) -> Floats:
    return array.reshape(len(array), -1).astype(np.float64)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _blocks(array: Array) -> Iterator[slice]:
    """Rows that are judged at once."""
    size = max(_BLOCK_ELEMENTS * len(array) // max(array.size, 1), 1)
    return (slice(start, start + size) for start in range(0, len(array), size))


def _class_labels(metric: str, labels: Array | None, classes: int) -> npt.NDArray[np.int64]:
    """The labels as class indices of shape (rows,).

    Raises:
        DataError: they are none.
    """
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{metric} needs labels of shape (rows,) with class indices",
            hint="save them as labels=... in the validation file, or choose another --metric",
        )
    _check_classes(labels, classes)
    return labels.astype(np.int64)


def _check_classes(labels: Array, classes: int) -> None:
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"labels reach from {labels.min()} to {labels.max()}, the model's first output has "
            f"{classes} classes",
            hint=f"save class indices from 0 to {classes - 1}",
        )


def top1(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """1 where the highest output is the label."""
    logits = outputs.first
    truth = _class_labels("top1", labels, logits.shape[1])
    return np.asarray(logits.argmax(axis=1) == truth, dtype=np.float64)


def top5(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """1 where the label is among the five highest outputs; a row with NaN is a miss.

    Of equal outputs the earlier ranks higher, as in top1.
    """
    logits = outputs.first
    truth = _class_labels("top5", labels, logits.shape[1])[:, None]
    own = np.take_along_axis(logits, truth, axis=1)
    earlier = (logits == own) & (np.arange(logits.shape[1]) < truth)
    ahead = ((logits > own) | earlier).sum(axis=1)
    return np.asarray((ahead < 5) & ~np.isnan(logits).any(axis=1), dtype=np.float64)


def cross_entropy(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """Mean over each row's labels in nats; 0 for a row without any, which then weighs nothing.

    The label of a position is the class that the output there should give: of a language model,
    the next token.
    """
    logits, truth = _sequences(next(iter(outputs.values.values())), labels)
    counted = truth != IGNORED_LABEL
    _check_classes(truth[counted], logits.shape[2])
    known = np.where(counted, truth, 0)
    rows = np.zeros(len(truth))
    for block in _blocks(logits):
        likely = _log_softmax(logits[block].astype(np.float64))
        own = np.take_along_axis(likely, known[block][..., None], axis=2)[..., 0]
        total = -np.where(counted[block], own, 0.0).sum(axis=1)
        rows[block] = total / np.maximum(counted[block].sum(axis=1), 1)
    return rows


def _sequences(logits: Array, labels: Array | None) -> tuple[Array, npt.NDArray[np.int64]]:
    """Logits as (rows, positions, classes), and class indices as (rows, positions)."""
    if labels is None or labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            "cross_entropy needs labels of shape (rows,) or (rows, positions) with class indices",
            hint="save them as labels=... in the validation file, or choose another --metric",
        )
    if labels.ndim == 1:
        logits, labels = logits.reshape(len(logits), 1, -1), labels[:, None]
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise DataError(
            f"labels of shape {labels.shape} do not fit the model's first output of shape "
            f"{logits.shape}",
            hint="give the class that each position should answer (of a language model, the next "
            f"token), and {IGNORED_LABEL} where there is none",
        )
    return logits, labels.astype(np.int64)


def _errors(metric: str, outputs: Outputs, labels: Array | None) -> Floats:
    """(rows, -1): the first output less the labels."""
    predicted, truth = outputs.first, _as_matrix(_numbers(metric, labels))
    if truth.shape != predicted.shape:
        raise DataError(
            f"{metric} needs as many labels as the model's first output has numbers: "
            f"{predicted.shape[1]} per row, not {truth.shape[1]}",
            hint="class indices are saved as integers, and judged by --metric top1",
        )
    return predicted - truth


def _numbers(metric: str, labels: Array | None) -> Array:
    """The labels, once it is known that they are finite numbers."""
    if (
        labels is None
        or labels.dtype.kind not in "iuf"
        or not np.isfinite(_as_matrix(labels)).all()
    ):
        raise DataError(
            f"{metric} needs labels that are finite numbers",
            hint="save them in the validation file, or choose another --metric",
        )
    return labels


def mae(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """Mean distance of each row's numbers from the labels."""
    return np.asarray(np.abs(_errors("mae", outputs, labels)).mean(axis=1))


def squared_error(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """Mean squared distance of each row's numbers from the labels."""
    return np.asarray((_errors("rmse", outputs, labels) ** 2).mean(axis=1))


def cosine(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """Cosine of the answers to the two halves of each pair; 0 where one of them is zero."""
    if outputs.pair_values is None:
        raise DataError(
            "spearman compares pairs, and the data have none",
            hint="save the second half of each pair as NAME_b beside NAME, and their scores",
        )
    if _numbers("spearman", labels).ndim != 1:
        raise DataError("spearman needs scores of shape (rows,)")
    one, other = outputs.first, _as_matrix(next(iter(outputs.pair_values.values())))
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.asarray((one * other).sum(axis=1) / np.where(norms == 0, 1.0, norms))


def kl(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """KL(dense || candidate) in nats, summed over classes, averaged over positions."""

    def divergence(mine: Floats, theirs: Floats) -> Floats:
        mine, theirs = _log_softmax(mine), _log_softmax(theirs)
        per_position = (np.exp(theirs) * (theirs - mine)).sum(axis=-1)
        return np.asarray(per_position.reshape(len(theirs), -1).mean(axis=1))

    return _distance(outputs, dense, divergence)


def undecidedness(dense: Outputs) -> Floats:
    """How far the KL divergence of each row moves with the logits, from the dense outputs: (rows,).

    To second order the divergence is half the square of the logits' change in the metric of the
    softmax's Fisher information; this is its trace, one less the sum of the squared probabilities.
    """

    def trace(mine: Floats, same: Floats) -> Floats:
        squares = np.square(np.exp(_log_softmax(mine))).sum(axis=-1)
        return np.asarray(1.0 - squares.reshape(len(mine), -1).mean(axis=1))

    return _distance(dense, dense, trace)


def relative_error(outputs: Outputs, dense: Outputs, labels: Array | None) -> Floats:
    """Squared distance from the dense outputs over their squared norm, per row."""

    def error(mine: Floats, theirs: Floats) -> Floats:
        mine, theirs = _as_matrix(mine), _as_matrix(theirs)
        norm = np.maximum((theirs**2).sum(axis=1), np.finfo(np.float64).tiny)
        return np.asarray(((mine - theirs) ** 2).sum(axis=1) / norm)

    return _distance(outputs, dense, error)


def _distance(
    outputs: Outputs, dense: Outputs, between: Callable[[Floats, Floats], Floats]
) -> Floats:
    """Distance from the dense outputs per row: the mean over outputs and halves of pairs."""
    halves = [(outputs.values, dense.values)]
    if outputs.pair_values is not None and dense.pair_values is not None:
        halves.append((outputs.pair_values, dense.pair_values))
    found = [
        np.concatenate(
            [
                between(mine[name][block].astype(np.float64), reference[block].astype(np.float64))
                for block in _blocks(reference)
            ]
        )
        for mine, theirs in halves
        for name, reference in theirs.items()
    ]
    # one after the other: NumPy adds up the outputs of a single row in another order than of many
    return np.asarray(sum(found[1:], start=found[0]) / len(found))
