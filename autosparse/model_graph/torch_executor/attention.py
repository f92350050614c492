"""The Attention operator of opset 23."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel, Operator

_NONPAD_KV_SEQLEN = 6


def _build_attention(node: NodeView) -> Kernel:
    scale = node.optional_number("scale")
    softcap = node.number("softcap", 0.0)
    causal = node.flag("is_causal")
    query_heads = node.optional_integer("q_num_heads")
    key_heads = node.optional_integer("kv_num_heads")
    softmax_dtype = node.dtype("softmax_precision")
    node.ignore("qk_matmul_output_mode")  # about the fourth output, which is refused
    for side in ("left_window_size", "right_window_size"):
        if node.integer(side, -1) != -1:
            node.refuse(side)
    if node.has_input(_NONPAD_KV_SEQLEN):
        node.refuse("nonpad_kv_seqlen")

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """(batch, heads, length, size) or (batch, length, heads * size), all three alike."""
        packed = query.ndim == 3
        if packed:
            query = _split_heads(query, query_heads)
            key, value = _split_heads(key, key_heads), _split_heads(value, key_heads)
        if past_key is not None and past_value is not None:
            key = torch.cat((past_key, key), dim=2)
            value = torch.cat((past_value, value), dim=2)
        groups = query.shape[1] // key.shape[1]
        factor = math.sqrt(1.0 / math.sqrt(query.shape[3]) if scale is None else scale)
        expanded = key.repeat_interleave(groups, dim=1)
        scores = (query * factor) @ (expanded * factor).transpose(2, 3)
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        past = 0 if past_key is None else past_key.shape[2]
        bias = _bias(scores, mask, past if causal else None)
        weights = _masked_softmax(scores, bias, softmax_dtype or scores.dtype)
        result = weights @ value.repeat_interleave(groups, dim=1)
        if packed:
            result = result.transpose(1, 2).flatten(2)
        return result, key, value

    return attention


def _split_heads(packed: Tensor, heads: int | None) -> Tensor:
    """(batch, length, heads * size) -> (batch, heads, length, size)."""
    if heads is None:
        raise UnsupportedNodeError("Attention on 3-D inputs with no number of heads")
    batch, length, width = packed.shape
    return packed.view(batch, length, heads, width // heads).transpose(1, 2)


def _bias(scores: Tensor, mask: Tensor | None, past: int | None) -> Tensor:
    """What is added to the scores, broadcastable to (batch, heads, queries, keys).

    Args:
        scores: (batch, heads, queries, keys), for its sizes and type.
        mask: True where a key is seen, or a number to add; the last keys may be missing.
        past: keys that precede the first query, None where a query sees every key.
    """
    queries, keys = scores.shape[-2:]
    bias = scores.new_zeros((queries, keys))
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        missing = keys - mask.shape[-1]
        bias = bias + torch.nn.functional.pad(mask, (0, missing), value=-math.inf)
    if past is not None:
        ahead = torch.ones((queries, keys), dtype=torch.bool, device=scores.device)
        bias = bias.masked_fill(ahead.triu(past + 1), -math.inf)
    return bias


def _masked_softmax(scores: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax over the keys; a query that sees no key gets zeros instead of NaN."""
    blind = torch.isneginf(bias).all(dim=-1, keepdim=True)
    logits = (scores + bias.masked_fill(blind, 0.0)).to(dtype)
    return torch.softmax(logits, dim=-1).masked_fill(blind, 0.0).to(scores.dtype)


OPERATORS: Mapping[str, Operator] = {
    "Attention": Operator(_build_attention, max_outputs=3),
}
