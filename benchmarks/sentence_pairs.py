"""MiniLM on the STS benchmark: trained on sentences without labels, judged by pairs with scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from autosparse.datasets import Dataset
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.model_graph import load_model
from benchmarks.lab_data import LabData, LabRequest
from benchmarks.model_files import UnavailableError
from benchmarks.transformer_models import load_embedder

# Hardly a sentence is longer, and tokens that only fill up cost as much time as words.
_LENGTH = 64
_CALIBRATION = 256


def sentence_data(request: LabRequest) -> LabData:
    """The embedder, judged by the rank correlation of cosines with the scores of the dev pairs.

    Raises:
        UnavailableError: a file, or the package of the model, is not there.
    """
    train, dev = (_pairs(request.assets, part) for part in ("train", "dev"))
    embedder = load_embedder()
    sentences = list(dict.fromkeys(text for pair in train for text in pair[:2]))[: request.rows]
    rows = embedder.tokens(sentences, _LENGTH)
    judging = dev[: request.judging]
    first, second = ([pair[side] for pair in judging] for side in (0, 1))
    path = embedder.export(request.directory / "given" / f"{request.model}.onnx", rows)
    return LabData(
        onnx=path,
        graph=load_model(path),
        train=Dataset(rows),
        calibration={name: own[:_CALIBRATION] for name, own in rows.items()},
        judging=Dataset(
            inputs=embedder.tokens(first, _LENGTH),
            labels=np.array([float(pair[2]) for pair in judging]),
            pair_inputs=embedder.tokens(second, _LENGTH),
        ),
        metric=BUILT_IN["spearman"],
        operators=("MatMul", "Gemm"),
        batch=50, step=32, logits=False,
    )  # fmt: skip


def _pairs(assets: Path, part: str) -> list[list[str]]:
    path = assets / "data" / f"stsb_en_{part}.csv"
    if not path.is_file():
        raise UnavailableError(f"there is no data/{path.name} in the folder of the assets")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))
