"""Norms come back without changing anything, and go again without changing anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autosparse.model_graph import ModelGraph
from autosparse.recovery.batch_norm import BatchNorm, ChannelSums
from autosparse.recovery.fine_tune import FineTune
from tests.models import images
from tests.recovery.lessons import answers, student_of

BATCHES = [{"image": torch.tensor(images(32, seed=s))} for s in (3, 4)]


def test_a_norm_undoes_the_factor_of_its_weights() -> None:
    """Mean 2, variance 4 - eps: what the layer computes comes out again, plus its bias."""
    mean, variance, bias = torch.tensor([2.0]), torch.tensor([4.0]), torch.tensor([0.5])
    norm = BatchNorm(mean, variance, bias, factor=3.0).eval()
    values = torch.tensor([[[1.0, 2.0, 6.0]]])
    assert torch.allclose(norm(3.0 * values), values + 0.5, atol=1e-6)


def test_folding_gives_rows_a_factor_and_a_bias() -> None:
    norm = BatchNorm(torch.tensor([1.0]), torch.tensor([4.0]), torch.tensor([0.0]))
    with torch.no_grad():
        norm.gamma.fill_(6.0)
        norm.beta.fill_(0.25)
    scale, bias = norm.folded()
    assert scale.item() == pytest.approx(3.0, rel=1e-5)
    assert bias.item() == pytest.approx(0.25 - 3.0, rel=1e-5)


def test_sums_over_batches_are_those_of_all_rows() -> None:
    rows = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sums = ChannelSums()
    for part in rows.split(20):  # type: ignore[no-untyped-call]
        sums.add(part)
    mean, variance = sums.moments()
    assert torch.allclose(mean, rows.mean(dim=(0, 2, 3)), atol=1e-6)
    assert torch.allclose(variance, rows.var(dim=(0, 2, 3), correction=0), atol=1e-5)


@pytest.mark.checks("batch norms for the training")
@pytest.mark.parametrize("level", ["unstructured@0.8:fp32", "2:4:fp32", "block1x4@0.5:int8"])
def test_an_inserted_norm_changes_nothing(residual: ModelGraph, level: str) -> None:
    student = student_of(residual, level, FineTune()).eval()
    fresh = {"image": torch.tensor(images(16, seed=9))}
    with torch.no_grad():
        before = student(fresh, 0.0)["logits"]
        student.insert_norms(BATCHES)
        after = student.eval()(fresh, 0.0)["logits"]
    assert student.has_norms
    assert torch.allclose(before, after, atol=1e-5)
    rows = [la.raw.detach().norm() / len(la.raw) ** 0.5 for la in student.trained_layers if la.norm]
    assert [float(r) for r in rows] == pytest.approx([1.0] * len(rows), rel=1e-5)


@pytest.mark.checks("batch norms for the training")
@pytest.mark.parametrize("level", ["unstructured@0.8:fp32", "block1x4@0.5:int8"])
def test_a_folded_norm_changes_nothing(residual: ModelGraph, level: str) -> None:
    """With scales of both signs: integers turn round, their steps stay positive."""
    student = student_of(residual, level, FineTune())
    student.insert_norms(BATCHES)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in student.trained_layers:
            if layer.norm is not None:
                layer.norm.gamma.mul_(torch.randn(len(layer.norm.gamma), generator=draw))
                layer.norm.beta.add_(torch.randn(len(layer.norm.beta), generator=draw))
        fresh = images(16, seed=9)
        expected = student.eval()({"image": torch.tensor(fresh)}, 1.0)["logits"].numpy()
    exported = student.export()
    found = answers(residual, exported, {"image": fresh})
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert all((w.scales > 0).all() for w in exported.values() if w.scales is not None)


def test_recalibration_gives_the_statistics_of_the_rows(residual: ModelGraph) -> None:
    student = student_of(residual, "unstructured@0.8:fp32", FineTune())
    student.insert_norms(BATCHES)
    stem = student.trained_layers[0]
    assert stem.norm is not None
    expected = stem.norm.mean.clone()
    stem.norm.mean.zero_()
    student.recalibrate(BATCHES)
    assert torch.allclose(stem.norm.mean, expected, atol=1e-5)
