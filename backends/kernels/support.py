"""Which levels the sparse kernels run, and whether there are kernels here at all."""

from __future__ import annotations

import importlib.util
import math
import platform
from functools import cache

from autosparse.errors import CompileError
from autosparse.levels import NM, Dense, Level, Precision
from autosparse.model_graph import Layer
from backends.kernels.compilers import CCompiler
from backends.kernels.limits import why_not_convolved
from backends.kernels.lowering import BF16_RUN, INT8_RUN
from backends.kernels.targets import instruction_sets


@cache
def why_no_kernels(architecture: str = "") -> str:
    """Why no sparse kernel can be built on this machine; empty where they can.

    Args:
        architecture: of a device that they must be built for, too; empty for this machine's.
    """
    device = architecture or platform.machine()
    for machine in (platform.machine(), device):
        if not instruction_sets(machine):
            return f"the sparse kernels are not built for {machine} yet"
    if importlib.util.find_spec("tvm") is None:
        return "Apache TVM is not installed (pip install 'autosparse[kernels]')"
    try:
        CCompiler.find()
        if device != platform.machine():
            CCompiler.crossing(device)
    except CompileError as error:
        return str(error)
    return ""


def why_not_sparse(layer: Layer, level: Level, architecture: str = "") -> str:
    """Why no kernel runs this level of this layer faster than the runtime; empty where one may.

    Args:
        layer: the layer.
        level: the level.
        architecture: of the device; empty for this machine's.
    """
    if level.precision is Precision.BF16:
        return _why_not_bf16(layer) or _why_missing(layer, architecture)
    if isinstance(level.pattern, Dense):
        return f"{layer.name}: {level} has no zeros to skip"
    if level.precision not in (Precision.FP32, Precision.INT8):
        return f"{layer.name}: the kernels compute in fp32, bf16 and int8, not {level.precision}"
    if layer.operator == "Conv" and len(layer.weight_shape) != 4:
        return f"{layer.name}: the sparse kernels know two-dimensional convolutions only"
    if layer.is_depthwise:
        return f"{layer.name}: a depthwise convolution has too few weights per output to skip any"
    if layer.operator == "Conv" and (reason := why_not_convolved(layer)):
        return reason
    return _why_no_run(layer, level) or _why_missing(layer, architecture)


def _why_missing(layer: Layer, architecture: str) -> str:
    missing = why_no_kernels(architecture)
    return f"{layer.name}: {missing}" if missing else ""


def _why_not_bf16(layer: Layer) -> str:
    """bf16 kernels read two consecutive weights at once, of rows of a matrix."""
    if layer.operator == "Conv":
        return f"{layer.name}: the bf16 kernels are for matrix products, not convolutions"
    if layer.reduction % BF16_RUN:
        return (
            f"{layer.name}: the bf16 kernels read {BF16_RUN} inputs at once, and it has "
            f"{layer.reduction}"
        )
    return ""


def _why_no_run(layer: Layer, level: Level) -> str:
    """int8 kernels read 4 consecutive weights at once, which must not cross a border."""
    if level.precision is not Precision.INT8:
        return ""
    convolves, pattern = layer.operator == "Conv", level.pattern
    if isinstance(pattern, NM) and convolves and layer.groups > 1:
        return f"{layer.name}: the int8 N:M kernels know convolutions of one group only"
    inner = layer.weight_shape[1] if convolves else layer.reduction
    step = pattern.group if isinstance(pattern, NM) else INT8_RUN
    if convolves:  # whatever the pattern, its input lies in words of four channels
        step = math.lcm(step, INT8_RUN)
    if inner % step:
        return (
            f"{layer.name}: {level} needs a multiple of {step} consecutive inputs, and it has "
            f"{inner}"
        )
    return ""
