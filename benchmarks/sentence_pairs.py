"""MiniLM on the STS benchmark: trained on sentences without labels, judged by pairs with scores."""

from __future__ import annotations

import numpy as np

from autosparse.datasets import Dataset
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.model_graph import load_model
from benchmarks.lab_data import LabData, LabRequest
from benchmarks.sts_pairs import read_pairs, sentences
from benchmarks.transformer_models import load_embedder

# Hardly a sentence is longer, and tokens that only fill up cost as much time as words.
_LENGTH = 64
_CALIBRATION = 256


def sentence_data(request: LabRequest) -> LabData:
    """The embedder, judged by the rank correlation of cosines with the scores of the dev pairs.

    Raises:
        UnavailableError: a file, or the package of the model, is not there.
    """
    train, dev = (read_pairs(request.assets, part) for part in ("train", "dev"))
    embedder = load_embedder()
    rows = embedder.tokens(sentences(train)[: request.rows], _LENGTH)
    judging = dev[: request.judging]
    path = embedder.export(request.directory / "given" / f"{request.model}.onnx", rows)
    return LabData(
        onnx=path,
        graph=load_model(path),
        train=Dataset(rows),
        calibration={name: own[:_CALIBRATION] for name, own in rows.items()},
        judging=Dataset(
            inputs=embedder.tokens([pair.first for pair in judging], _LENGTH),
            labels=np.array([pair.score for pair in judging]),
            pair_inputs=embedder.tokens([pair.second for pair in judging], _LENGTH),
        ),
        metric=BUILT_IN["spearman"],
        operators=("MatMul", "Gemm"),
        batch=50, step=32, logits=False,
    )  # fmt: skip
