"""The rows of a recovery training: checked at intake, and never those that judge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from autosparse.datasets import Dataset, load_dataset
from autosparse.errors import DataError
from autosparse.pipeline.job import Job
from autosparse.recovery import RECOVERIES
from autosparse.recovery.augmentation import check_augmentation
from autosparse.recovery.distillation import check_attention
from autosparse.tensor_spec import TensorSpec


def load_training_rows(job: Job) -> Dataset | None:
    """Read and check the train file; None where no recovery is asked for.

    Rows that the validation or the test file has, too, are left out: a model must not be judged
    by what it learned.

    Raises:
        UserInputError: the file, the method's name, the labels, the augmentation or what
            is distilled are wrong.
    """
    config = job.config
    if config.recover is None or config.train is None:
        return None
    RECOVERIES.load(config.recover)  # a wrong name must not cost a search first
    check_augmentation(config.augment, job.graph.inputs)
    check_attention(config.distill, job.graph)
    data = load_dataset(config.train, job.graph.inputs, "train")
    if config.train_labels:
        _check_class_labels(data, job.graph.outputs[0])
    else:
        data = replace(data, labels=None)  # whatever they are, nothing learns from them
    judging = [job.selecting, job.gating, *([] if job.test is None else [job.test])]
    kept = _rows_of_no_other(data, judging)
    if not len(kept):
        raise DataError(
            "every row of the train file is in the validation or the test file, too",
            hint="train on other rows: those would judge what was learned from them",
        )
    if len(kept) < len(data):
        job.engines.progress.note(
            f"{len(data) - len(kept)} rows of the train file are also in the validation or test "
            "file: they are not trained on"
        )
    return data if len(kept) == len(data) else data.rows(kept)


def _check_class_labels(data: Dataset, output: TensorSpec) -> None:
    """Make sure that a cross-entropy can be taken.

    Raises:
        DataError: there are no labels, or they are no classes of the model's first output.
    """
    labels = data.labels
    if labels is None or data.pair_inputs is not None:
        raise DataError(
            "--train-labels needs labels, and the train file has none",
            hint="save class indices as labels=..., or leave --train-labels away: the dense model "
            "is the teacher",
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"--train-labels needs class indices of shape (rows,), the train file's labels are "
            f"{labels.dtype} {labels.shape}",
            hint="leave --train-labels away: the dense model is the teacher",
        )
    if len(output.shape) != 2 or not np.issubdtype(output.dtype, np.floating):
        raise DataError(
            f"--train-labels needs a first output of shape (rows, classes), and the model's is "
            f"{output}",
            hint="leave --train-labels away: the dense model is the teacher",
        )
    classes = output.shape[-1]
    if isinstance(classes, int) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"the train file's labels reach from {labels.min()} to {labels.max()}, the model's "
            f"first output has {classes} classes",
            hint=f"save class indices from 0 to {classes - 1}",
        )


def _rows_of_no_other(data: Dataset, others: Iterable[Dataset]) -> npt.NDArray[np.int64]:
    """Indices of the rows that none of the others has; of pairs, as either half."""
    known = {digest for other in others for halves in _row_digests(other) for digest in halves}
    return np.flatnonzero([known.isdisjoint(halves) for halves in _row_digests(data)])


def _row_digests(data: Dataset) -> list[tuple[bytes, ...]]:
    """For every row, a digest of all its inputs; of a pair, one of each half."""
    halves = [data.inputs] if data.pair_inputs is None else [data.inputs, data.pair_inputs]
    return list(zip(*(_half_digests(half, len(data)) for half in halves), strict=True))


def _half_digests(inputs: Mapping[str, npt.NDArray[np.generic]], rows: int) -> list[bytes]:
    arrays = [np.ascontiguousarray(inputs[name]) for name in sorted(inputs)]
    return [
        hashlib.blake2b(b"".join(array[row].tobytes() for array in arrays), digest_size=16).digest()
        for row in range(rows)
    ]
