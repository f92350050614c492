"""Losses worked out by hand, and the tensors that they are taken of."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from autosparse.model_graph import ModelGraph, load_model
from autosparse.recovery.distillation import (
    answer_loss,
    attention_divergence,
    attention_tensors,
    feature_tensors,
    logits_of,
    probability_outputs,
    relative_error,
    softened_divergence,
)
from autosparse.recovery.fine_tune import FineTune
from tests.models import Net, residual_cnn
from tests.recovery.lessons import lesson


def test_the_divergence_of_two_softmaxes() -> None:
    student = torch.zeros(1, 2)  # one half each
    teacher = torch.tensor([[math.log(3.0), 0.0]])  # three quarters, one quarter
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert softened_divergence(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_a_temperature_softens_and_keeps_the_size() -> None:
    student, teacher = torch.zeros(2, 3, 2), torch.full((2, 3, 2), 0.0)
    teacher[..., 0] = 2 * math.log(3.0)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert softened_divergence(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_relative_error_is_free_of_units() -> None:
    student, teacher = torch.tensor([3.0, 3.0]), torch.tensor([3.0, 4.0])
    assert relative_error(student, teacher).item() == pytest.approx(1 / 25)
    assert relative_error(10 * student, 10 * teacher).item() == pytest.approx(1 / 25)


def test_attention_is_compared_query_by_query() -> None:
    student = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]]])
    teacher = torch.tensor([[[[0.75, 0.25], [1.0, 0.0]]]])
    one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert attention_divergence(student, teacher).item() == pytest.approx(one / 2, rel=1e-4)


def test_every_output_counts_and_integers_do_not() -> None:
    teacher = {
        "a": torch.ones(2, 2),
        "b": torch.ones(2, 2),
        "ids": torch.ones(2, dtype=torch.int64),
    }
    student = {"a": torch.zeros(2, 2), "b": torch.ones(2, 2), "ids": torch.zeros(2)}
    assert answer_loss(student, teacher, logits=False, temperature=1.0).item() == 0.5


def test_probabilities_are_told_from_logits() -> None:
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.7]])
    chances = scores.softmax(dim=-1)
    found = {
        "logits": scores, "chances": chances, "rounded": chances.half(), "shares": 0.5 * chances,
        "classes": torch.ones(2, 1, dtype=torch.int64), "alone": torch.ones(2),
    }  # fmt: skip
    assert probability_outputs(found) == {"chances", "rounded"}
    assert torch.allclose(logits_of(chances).softmax(dim=-1), chances)


def test_the_loss_of_probabilities_is_that_of_their_logits() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = 3.0 * torch.randn(2, 5, 7, generator=draw)
    wanted = softened_divergence(student, teacher, 4.0).item()
    chances = ({"p": student.softmax(dim=-1)}, {"p": teacher.softmax(dim=-1)})
    found = answer_loss(*chances, logits=True, temperature=4.0, probabilities={"p"}).item()
    assert found == pytest.approx(wanted, rel=1e-4)
    assert answer_loss(*chances, logits=True, temperature=4.0).item() < 0.5 * wanted


def test_a_net_that_ends_in_a_softmax_learns_as_without(
    residual: ModelGraph, tmp_path: Path
) -> None:
    net = residual_cnn()
    net.node("Softmax", "logits", name="soft", to="chances", axis=-1)
    ended = load_model(net.save(tmp_path / "soft.onnx", "chances"))
    plain, soft = (
        lesson(graph, "unstructured@0.8:fp32", FineTune(), temperature=4.0, labels=0.5)
        for graph in (residual, ended)
    )
    assert soft.before == pytest.approx(plain.before, rel=1e-3)
    assert soft.after == pytest.approx(plain.after, rel=0.02)
    losses = [[point.training_loss for point in found.curve] for found in (soft, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.fixture
def residual(tmp_path: Path) -> ModelGraph:
    return load_model(residual_cnn().save(tmp_path / "net.onnx", "logits"))


def test_features_are_the_sums_of_branches(residual: ModelGraph) -> None:
    assert feature_tensors(residual) == ("block1.add_out", "block2.add_out")
    assert attention_tensors(residual) == ()


def test_attention_is_found_between_two_products(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 2, 4, 8)
    query = net.node("MatMul", x, net.weight("q.weight", 8, 8), name="q")
    key = net.node("Transpose", x, name="turn", perm=[0, 2, 1])
    weights = net.node("Softmax", net.node("MatMul", query, key, name="scores"), name="soft")
    net.node("Softmax", net.node("MatMul", weights, x, name="mix"), name="last", to="y")
    graph = load_model(net.save(tmp_path / "net.onnx", "y"))
    assert attention_tensors(graph) == ("soft_out",)
