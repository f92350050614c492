"""ONNX element types and constants as torch has them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

# uint16, uint32 and uint64 exist in torch, but most of its operators refuse them.
TORCH_DTYPES: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def to_torch(tensor: ir.TensorProtocol) -> Tensor:
    """Copy a constant of a type in `TORCH_DTYPES` into a torch tensor of the same shape."""
    values = tensor.numpy()
    if tensor.dtype == ir.DataType.BFLOAT16:
        # numpy has no bfloat16 that torch would take over: hand the bits across
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(values, order="C"))
