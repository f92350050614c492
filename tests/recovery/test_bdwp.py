"""Gradients that go back through another weight than the one that was multiplied with."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)

from autosparse.errors import AutoSparseError, CandidateError
from autosparse.levels import NM, Level
from autosparse.model_graph import ModelGraph
from autosparse.recovery import training
from autosparse.recovery.backward_weights import backwards_with
from autosparse.recovery.bdwp import Bdwp, backward_mask
from autosparse.recovery.sr_ste import SrSte
from autosparse.recovery.student import Student
from tests.models import images
from tests.recovery.lessons import lesson, levels_of, one_layer, weights_of


def test_a_backward_mask_by_hand() -> None:
    sizes = torch.tensor([[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
    found = backward_mask(sizes, NM(nonzeros=2, group=4))
    expected = [[True, False], [True, False], [False, True], [False, True]]
    assert found.tolist() == expected


@pytest.mark.checks("bdwp")
def test_weights_are_n_m_along_inputs_forwards_and_along_outputs_backwards() -> None:
    recovery = Bdwp()
    layer = one_layer(recovery, "2:4:fp32")
    forwards = recovery.weight(layer, 0.1).detach() != 0
    backwards = recovery.backward_weight(layer)
    assert backwards is not None
    assert forwards.reshape(-1, 4).sum(dim=1).max() <= 2
    assert (backwards != 0).t().reshape(-1, 4).sum(dim=1).max() <= 2
    assert not torch.equal(forwards, backwards != 0)


@pytest.mark.parametrize("operator", ["linear", "matmul", "convolution"])
def test_only_the_gradient_of_the_input_takes_the_other_weight(operator: str) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 12, generator=draw, requires_grad=True)
    other = torch.randn(8, 12, generator=draw)
    x = torch.randn(3, 4, 12, generator=draw, requires_grad=True)
    image = torch.randn(3, 3, 5, 5, generator=draw, requires_grad=True)

    def run(used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if operator == "linear":
            return F.linear(x, used), x
        if operator == "matmul":
            return torch.matmul(x, used.t()), x
        # as convolutions are stored: (out, kernel, cin) seen as (out, cin, kernel)
        return F.conv2d(image, used.reshape(8, 2, 2, 3).movedim(-1, 1)), image

    effective = weight * 1.0
    with backwards_with({effective.untyped_storage().data_ptr(): other}):
        result, read = run(effective)
    plain, _ = run(weight)
    assert torch.equal(result, plain)
    slope = torch.randn(result.shape, generator=draw)
    mine = torch.autograd.grad(result, (read, weight), slope)
    through, _ = run(other)
    assert torch.allclose(mine[0], torch.autograd.grad(through, read, slope)[0], atol=1e-5)
    assert torch.allclose(mine[1], torch.autograd.grad(plain, weight, slope)[0], atol=1e-5)


@pytest.mark.checks("bdwp")
def test_the_other_mask_reaches_the_layers_before(residual: ModelGraph) -> None:
    """The last layer's own gradient is that of sr_ste; the first one's is another."""

    def gradients(recovery: SrSte) -> dict[str, torch.Tensor]:
        levels = levels_of(residual, "2:4:fp32")
        student = Student(residual, levels, weights_of(residual, levels), recovery)
        outputs = student({"image": torch.tensor(images(8))}, 0.1)
        outputs["logits"].square().sum().backward()
        return {
            layer.name: layer.raw.grad
            for layer in student.trained_layers
            if layer.raw.grad is not None
        }

    mine, plain = gradients(Bdwp()), gradients(SrSte())
    assert torch.allclose(mine["classifier"], plain["classifier"], rtol=1e-4)
    assert not torch.allclose(mine["stem"], plain["stem"], rtol=1e-2)


def test_it_trains_in_fp32_also_where_bf16_is_faster(
    residual: ModelGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 multiplies with copies of the weights: the backward mask would be lost in silence."""
    monkeypatch.setattr(training, "faster_arithmetic", lambda run: "bf16")
    found = {
        recovery.name: lesson(residual, "2:4:fp32", recovery, steps=2, arithmetic="auto").arithmetic
        for recovery in (Bdwp(), SrSte())
    }
    assert found == {"bdwp": "fp32", "sr_ste": "bf16"}
    with pytest.raises(CandidateError, match="bdwp trains in fp32 only"):
        lesson(residual, "2:4:fp32", Bdwp(), steps=2, arithmetic="bf16")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(AutoSparseError, match="needs fp32"):
        backwards_with({})


def test_other_patterns_are_refused() -> None:
    why_not = Bdwp().why_not({"conv": Level.parse("unstructured@0.5:fp32")})
    assert why_not == "conv is unstructured@0.5:fp32, and bdwp trains N:M zeros only"
