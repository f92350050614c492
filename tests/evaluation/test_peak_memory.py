"""Peak memory of an act, as the system tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.evaluation import peak_memory
from autosparse.evaluation.artifact_files import given_bytes, library_bytes, lowered_bytes
from autosparse.evaluation.backend import LoweredModel
from autosparse.evaluation.peak_memory import peak_growth

MEBI = 1 << 20


def test_what_is_freed_before_the_end_counts_too() -> None:
    length, growth = peak_growth(lambda: len(np.ones(64 * MEBI, dtype=np.uint8)))
    assert length == 64 * MEBI
    assert growth is not None
    assert 60 * MEBI <= growth <= 80 * MEBI


def test_what_was_there_before_does_not_count() -> None:
    held = np.ones(64 * MEBI, dtype=np.uint8)
    again = np.ones(64 * MEBI, dtype=np.uint8)
    del again
    _, growth = peak_growth(lambda: held.sum())
    assert growth is not None
    assert growth < 8 * MEBI


def test_without_such_accounts_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peak_memory, "_MARKS", tmp_path / "none" / "clear_refs")
    assert peak_growth(lambda: 7) == (7, None)


def test_a_lowered_model_is_all_that_its_device_needs(tmp_path: Path) -> None:
    for name, size in (("model.onnx", 100), ("kernels/k.so", 20), ("kernels/arm/k.so", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    here = LoweredModel(tmp_path, "model.onnx", library="kernels/k.so")
    there = LoweredModel(
        tmp_path, "model.onnx", library="kernels/k.so", device_library="kernels/arm/k.so"
    )
    assert lowered_bytes(there) == 103
    assert library_bytes(there) == 3
    (tmp_path / "kernels/arm/k.so").unlink()
    assert lowered_bytes(here) == 120
    assert library_bytes(here) == 20
    assert library_bytes(LoweredModel(tmp_path, "model.onnx")) == 0


def test_what_lies_beside_a_given_model_does_not_count(residual_model: Path) -> None:
    given = LoweredModel(residual_model.parent, residual_model.name)
    assert given_bytes(given) == residual_model.stat().st_size
