"""Arithmetic, comparison, logic and casts: one value in, one value out, with broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator, plain


def _divide(dividend: Tensor, divisor: Tensor) -> Tensor:
    """Divide; integers towards zero, as C does."""
    if dividend.is_floating_point():
        return torch.div(dividend, divisor)
    return torch.div(dividend, divisor, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    # the two types may differ, the result has the base's
    return torch.pow(base, exponent).to(base.dtype)


def _build_mod(node: NodeView) -> Kernel:
    # fmod takes the sign of the dividend, as C does; remainder the divisor's, as Python does
    return torch.fmod if node.flag("fmod") else torch.remainder


def _build_is_inf(node: NodeView) -> Kernel:
    negative, positive = node.flag("detect_negative", True), node.flag("detect_positive", True)

    def is_inf(x: Tensor) -> Tensor:
        if negative and positive:
            return torch.isinf(x)
        if negative:
            return torch.isneginf(x)
        if positive:
            return torch.isposinf(x)
        return torch.zeros_like(x, dtype=torch.bool)

    return is_inf


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return plain(lambda *terms: functools.reduce(function, terms))


def _mean(*terms: Tensor) -> Tensor:
    total = functools.reduce(torch.add, terms)
    return total / len(terms)


def _build_cast(node: NodeView) -> Kernel:
    dtype = node.dtype("to")
    if dtype is None:
        node.refuse("no target type")
    # both say how to round to 8 bits and fewer, which `dtype` refuses
    node.ignore("saturate", "round_mode")
    return lambda x: x.to(dtype)


def _build_cast_like(node: NodeView) -> Kernel:
    node.ignore("saturate", "round_mode")
    return lambda x, like: x.to(like.dtype)


OPERATORS: Mapping[str, Operator] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseNot": plain(torch.bitwise_not),
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "Cast": Operator(_build_cast),
    "CastLike": Operator(_build_cast_like),
    "Ceil": plain(torch.ceil),
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": plain(_divide),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "Identity": plain(lambda x: x),
    "IsInf": Operator(_build_is_inf),
    "IsNaN": plain(torch.isnan),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": _variadic(torch.maximum),
    "Mean": plain(_mean),
    "Min": _variadic(torch.minimum),
    "Mod": Operator(_build_mod),
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "Pow": plain(_power),
    "Reciprocal": plain(torch.reciprocal),
    "Round": plain(torch.round),  # halves to even, both
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": _variadic(torch.add),
    "Tan": plain(torch.tan),
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
