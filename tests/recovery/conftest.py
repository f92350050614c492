"""Nets that are trained here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from autosparse.model_graph import ModelGraph, load_model
from tests.models import residual_cnn
from tests.recovery.lessons import planted_graph


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """The operations are tiny: on a busy machine, threads would wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def residual(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    return load_model(residual_cnn().save(path, "logits"))


@pytest.fixture(scope="package")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    return planted_graph(tmp_path_factory.mktemp("planted"))
