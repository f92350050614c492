"""Rows that no job sees: what is true of them is known, or they have no metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cifar_models
from benchmarks.cifar_models import resnet
from benchmarks.model_files import ModelRequest, Sizes, UnavailableError
from benchmarks.sts_pairs import Pair, pairs_without, read_pairs, sentences

SIZES = Sizes(calibration=3, validation=4, held_out=5)


def assets(root: Path, *, images: bool) -> Path:
    (root / "models").mkdir(parents=True)
    (root / "models" / "resnet20.onnx").touch()
    if images:
        (root / "data").mkdir()
        pixels = np.zeros((9, 32, 32, 3), np.uint8)
        for part in ("train", "valid"):
            np.savez(root / "data" / f"cifar10_{part}.npz", images=pixels, labels=np.arange(9))
    return root


def test_images_have_classes_and_noise_has_none(tmp_path: Path) -> None:
    real = ModelRequest(assets(tmp_path / "real", images=True), tmp_path / "a", SIZES)
    files = resnet(real, 20)
    assert files.labels_metric == "top1"
    assert files.held_out.labels is not None
    assert files.held_out.labels.tolist() == [4, 5, 6, 7, 8]
    noise = ModelRequest(assets(tmp_path / "noise", images=False), tmp_path / "b", SIZES)
    files = resnet(noise, 20)
    assert (files.labels_metric, files.held_out.labels) == ("", None)
    assert len(files.held_out) == 5


def test_a_model_that_was_taught_nothing_has_no_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cifar_models, "export_onnx", lambda network, example, name, path, free: path
    )
    monkeypatch.setattr(cifar_models, "train_classifier", lambda network, data: None)
    monkeypatch.setattr(cifar_models, "_settle_norms", lambda network: None)
    root = assets(tmp_path / "assets", images=True)
    taught = cifar_models.mobilenet(ModelRequest(root, tmp_path / "a", SIZES))
    assert taught.labels_metric == "top1"
    (root / "data" / "cifar10_train.npz").unlink()
    untaught = cifar_models.mobilenet(ModelRequest(root, tmp_path / "b", SIZES))
    assert (untaught.labels_metric, untaught.held_out.labels) == ("", None)


def test_no_sentence_of_a_held_out_pair_was_seen(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stsb_en_dev.csv").write_text('a,b,5.0\nc,a,4\n"d, e",f,2.5\nd,g,0\n')
    pairs = read_pairs(tmp_path, "dev")
    assert sentences(pairs) == ["a", "b", "c", "d, e", "f", "d", "g"]
    assert pairs_without(pairs, ["a"], 5) == [Pair("d, e", "f", 2.5), Pair("d", "g", 0.0)]
    assert pairs_without(pairs, ["f"], 1) == [Pair("a", "b", 5.0)]
    with pytest.raises(UnavailableError, match=r"data/stsb_en_train\.csv"):
        read_pairs(tmp_path, "train")
