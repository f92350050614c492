"""What the student is asked to match: the dense model's answers, and what it computes on the way.

No labels are needed: the dense model is the teacher (Hinton et al. 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.errors import ConfigError
from autosparse.model_graph import ModelGraph

Tensors = Mapping[str, Tensor]
_MOST_FEATURES = 4
_SMALLEST_PROBABILITY = 1e-12
# How far from 1 a sum of probabilities may be, in half precision, too.
_SUM_TOLERANCE = 1e-3


def probability_outputs(answers: Tensors) -> frozenset[str]:
    """Outputs that are probabilities of classes: none is negative, and each row sums to 1.

    Args:
        answers: output name -> (rows, ..., classes) of the dense model.
    """
    return frozenset(
        name
        for name, values in answers.items()
        if values.is_floating_point()
        and values.ndim > 1
        and bool((values >= 0).all())
        and bool(((values.float().sum(dim=-1) - 1.0).abs() <= _SUM_TOLERANCE).all())
    )


def logits_of(probabilities: Tensor) -> Tensor:
    """Logits whose softmax gives these probabilities: their logarithms."""
    return probabilities.float().clamp_min(_SMALLEST_PROBABILITY).log()


def answer_loss(
    student: Tensors,
    teacher: Tensors,
    *,
    logits: bool,
    temperature: float,
    probabilities: Collection[str] = (),
) -> Tensor:
    """Mean over the outputs of what each is away from the teacher's.

    Args:
        student: output name -> (rows, ..., classes).
        teacher: the same of the dense model.
        logits: whether outputs are choices among classes; else they are numbers.
        temperature: what logits are divided by; the loss keeps its size (times its square).
        probabilities: outputs that a softmax has been taken of in the model.
    """

    def away(name: str, wanted: Tensor) -> Tensor:
        mine = student[name]
        if not logits:
            return relative_error(mine, wanted)
        if name in probabilities:
            mine, wanted = logits_of(mine), logits_of(wanted)
        return softened_divergence(mine, wanted, temperature)

    losses = [away(name, own) for name, own in teacher.items() if own.is_floating_point()]
    return torch.stack(losses).mean()


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence from the teacher's softmax over the last axis, in nats, averaged."""
    mine = F.log_softmax(student.float() / temperature, dim=-1)
    wanted = F.log_softmax(teacher.float() / temperature, dim=-1)
    summed = F.kl_div(mine, wanted, reduction="sum", log_target=True)
    return summed * temperature**2 / max(mine[..., 0].numel(), 1)


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance, relative to the teacher's squared norm."""
    return (student.float() - teacher.float()).square().sum() / (
        teacher.float().square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    )


def attention_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of attention weights, (rows, heads, queries, keys), averaged over queries."""
    floor = 1e-8
    mine, wanted = student.float().clamp_min(floor).log(), teacher.float().clamp_min(floor).log()
    return F.kl_div(mine, wanted, reduction="sum", log_target=True) / mine[..., 0].numel()


def feature_tensors(graph: ModelGraph) -> tuple[str, ...]:
    """Some tensors inside the model, evenly over its depth: what is matched on the way.

    Where branches are joined by an Add, those sums; else the layers' own results.
    """
    outputs = {str(value.name) for value in graph.model.graph.outputs}
    computed = [
        str(node.outputs[0].name)
        for node in graph.model.graph
        if node.op_type == "Add"
        and all(v is not None and not v.is_initializer() for v in node.inputs)
    ]
    names = computed or [layer.output for layer in graph.layers]
    return _evenly([name for name in names if name not in outputs], _MOST_FEATURES)


def attention_tensors(graph: ModelGraph) -> tuple[str, ...]:
    """Attention weights: what a softmax between two products of activations gives."""
    return tuple(
        str(node.outputs[0].name)
        for node in graph.model.graph
        if node.op_type == "Softmax"
        and any(
            reader.op_type == "MatMul"
            and all(v is not None and not v.is_initializer() for v in reader.inputs)
            for reader in node.outputs[0].consumers()
        )
    )


def check_attention(asked: Collection[str], graph: ModelGraph) -> None:
    """Refuse to match attention weights where a model has none.

    Raises:
        ConfigError: `attention` is asked for, and there is no softmax between two products.
    """
    if "attention" in asked and not attention_tensors(graph):
        raise ConfigError(
            "--distill attention: the model has no attention weights",
            hint="leave it away, or ask for features",
        )


def _evenly(names: Sequence[str], most: int) -> tuple[str, ...]:
    """At most so many of the names, the last among them, evenly spread."""
    if len(names) <= most:
        return tuple(names)
    return tuple(names[round((i + 1) * len(names) / most) - 1] for i in range(most))
