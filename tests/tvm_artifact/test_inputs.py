"""Inputs that are no images: whole numbers, masks, single numbers, and none at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.tvm_backend import TvmBackend
from tests.lowering import Subject, request, subject
from tests.models import Array, Net, images
from tests.tvm_artifact.test_answers import answer

pytestmark = pytest.mark.slow


def sentences(batch: int, length: int) -> dict[str, Array]:
    random = np.random.default_rng(batch + length)
    return {
        "ids": random.integers(0, 10, (batch, length)),
        "kept": random.random((batch, length, 1)) < 0.7,
        "factor": np.asarray(1.5, np.float32),
    }


def tokens_subject(directory: Path) -> Subject:
    """An embedding, a layer, a mask of truth values and a single number."""
    net = Net()
    ids = net.input("ids", "batch", "length", dtype=TensorProto.INT64)
    kept = net.input("kept", "batch", "length", 1, dtype=TensorProto.BOOL)
    factor = net.input("factor")
    found = net.node("Gather", net.weight("embedding", 10, 8), ids)
    mixed = net.node("MatMul", found, net.weight("mix.weight", 8, 8), name="mix")
    scaled = net.node("Mul", mixed, factor)
    net.node("Where", kept, scaled, net.constant("nothing", np.float32(0)), to="y")
    path = net.save(directory / "tokens.onnx", "y")
    return subject(path, sentences(2, 5))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return tokens_subject(tmp_path_factory.mktemp("tokens"))


def test_numbers_and_masks_of_any_size(tokens: Subject, tmp_path: Path) -> None:
    shapes = {"ids": (1, 4), "kept": (1, 4, 1), "factor": ()}
    asked = replace(request(tokens, {}), input_shapes=shapes)
    runner = TvmBackend().open(TvmBackend().lower(asked, tmp_path / "tvm"), threads=1)
    dense = OnnxRuntimeBackend().lower(request(tokens, {}), tmp_path / "ort")
    theirs = OnnxRuntimeBackend().open(dense, threads=1)
    for batch, length in ((1, 4), (3, 7), (1, 1)):
        given = sentences(batch, length)
        expected = answer(theirs, given, "y")
        np.testing.assert_allclose(answer(runner, given, "y"), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_of_nothing_gives_nothing(residual: Subject, tmp_path: Path) -> None:
    runner = TvmBackend().open(TvmBackend().lower(request(residual, {}), tmp_path), threads=1)
    assert runner.run({"image": images(0)})["logits"].shape == (0, 10)
    assert runner.run({"image": images(1)})["logits"].shape == (1, 10)
