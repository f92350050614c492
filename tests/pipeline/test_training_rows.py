"""The rows of a recovery training: what is refused, and which of them are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.errors import ConfigError, DataError
from autosparse.pipeline.training_rows import load_training_rows
from tests.models import images, residual_cnn
from tests.pipeline.recovery_job import ROWS, config_of, opened, rows_of, write_files
from tests.pipeline.sparse_world import Notes


@pytest.fixture
def told() -> Notes:
    return Notes()


def test_rows_that_judge_are_not_trained_on(tmp_path: Path, told: Notes) -> None:
    write_files(tmp_path)
    judging = images(64, seed=2)
    np.savez(tmp_path / "train.npz", image=np.concatenate([ROWS, judging[:10], ROWS[:3]]))
    for job in opened(config_of(tmp_path), told):
        rows = rows_of(job)
        assert len(rows) == 323
        assert np.array_equal(rows.inputs["image"][:320], ROWS)
    assert any(text.startswith("10 rows of the train file") for text in told.told)


def test_neither_half_of_a_judging_pair_is_trained_on(tmp_path: Path, told: Notes) -> None:
    """Either half of a pair is a row to learn from."""
    write_files(tmp_path)
    one, other = images(64, seed=2), images(64, seed=3)
    scores = np.linspace(0.0, 1.0, 64)
    np.savez(tmp_path / "validation.npz", image=one, image_b=other, scores=scores)
    first, second = ROWS[:40].copy(), ROWS[40:80].copy()
    first[0], first[1] = one[1], other[5]
    second[2], second[3] = one[7], other[9]
    np.savez(tmp_path / "train.npz", image=first, image_b=second)
    for job in opened(config_of(tmp_path), told):
        rows = rows_of(job)
        assert rows.pair_inputs is not None
        assert np.array_equal(rows.inputs["image"], first[4:])
        assert np.array_equal(rows.pair_inputs["image"], second[4:])
    assert any(text.startswith("4 rows of the train file") for text in told.told)


def test_a_train_file_of_judging_rows_only_is_refused(tmp_path: Path, told: Notes) -> None:
    write_files(tmp_path)
    np.savez(tmp_path / "train.npz", image=images(64, seed=2))
    for job in opened(config_of(tmp_path), told):
        with pytest.raises(DataError, match="every row of the train file"):
            load_training_rows(job)


@pytest.mark.parametrize(
    ("arrays", "fields", "sentence"),
    [
        ({"image": ROWS.astype(np.float64)}, {}, "'image' of the train file is float64"),
        ({"picture": ROWS}, {}, "the train file train.npz holds the array 'picture'"),
        ({"image": ROWS[:, :2]}, {}, "'image' of the train file has the shape"),
        ({"image": np.full_like(ROWS, np.nan)}, {}, "'image' of the train file has NaN"),
        ({"image": ROWS[:0]}, {}, "the train file train.npz has no rows"),
        ({"image": ROWS}, {"train_labels": True}, "--train-labels needs labels"),
        ({"image": ROWS, "labels": np.full(320, 10)}, {"train_labels": True}, "10 classes"),
        ({"image": ROWS, "labels": np.ones(320)}, {"train_labels": True}, "float64 (320,)"),
        ({"image": ROWS}, {"distill": "attention"}, "the model has no attention weights"),
        ({"image": ROWS}, {"recover": "fine_tone"}, "no recovery is called 'fine_tone'"),
    ],
)
def test_a_wrong_train_file_is_told_at_intake(
    tmp_path: Path, told: Notes, arrays: dict[str, Any], fields: dict[str, Any], sentence: str
) -> None:
    write_files(tmp_path)
    np.savez(tmp_path / "train.npz", **arrays)
    for job in opened(config_of(tmp_path, **fields), told):
        with pytest.raises((DataError, ConfigError)) as caught:
            load_training_rows(job)
        assert sentence in str(caught.value)


def test_labels_that_nothing_learns_from_may_be_anything(tmp_path: Path, told: Notes) -> None:
    write_files(tmp_path)
    np.savez(tmp_path / "train.npz", image=ROWS, labels=np.full(320, "cat"))
    for job in opened(config_of(tmp_path), told):
        assert rows_of(job).labels is None


@pytest.mark.parametrize("to", ["classes", "places"])
def test_labels_need_one_choice_among_classes(tmp_path: Path, told: Notes, to: str) -> None:
    """A cross-entropy of one label a row has no meaning for a class of every place."""
    write_files(tmp_path)
    net = residual_cnn()
    if to == "places":
        net.node("Reshape", "logits", net.constant("by two", np.array([0, 5, 2])), to="places")
    net.save(tmp_path / "model.onnx", "logits" if to == "classes" else "places")
    labels = np.arange(320, dtype=np.int32) % 2
    np.savez(tmp_path / "train.npz", image=ROWS, labels=labels)
    for job in opened(config_of(tmp_path, train_labels=True, metric="relative_error"), told):
        if to == "classes":
            learned = rows_of(job).labels
            assert learned is not None
            assert np.array_equal(learned, labels)
        else:
            with pytest.raises(DataError, match=r"a first output of shape \(rows, classes\)"):
                load_training_rows(job)
