"""The custom operators: their names, their inputs, and the dense meaning of each as a function.

`[Q|B]Sparse(MatMul|Conv)[ToFloat][Add][Relu|Clip|Gelu|Silu|Norm]` in the domain `ai.autosparse`. A
model that uses one also holds a model-local function of that name. ONNX Runtime takes the kernel
where the library is registered; elsewhere it inlines the function, folds the weight at load and
runs the layer densely: one file for both. The order of the inputs is that of `csrc/ort_variants.h`.

Weights are stored as runs of consecutive weights that hold a non-zero, and the gap from each
run's position to the one before in one byte; a run of zeros bridges a longer gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir

from backends.kernels.sparse_layer import Activation, Weights

DOMAIN, VERSION = "ai.autosparse", 1
_LONGEST_GAP = 255
_NORMALIZES_FROM = 17
"""Opset that LayerNormalization came with."""
_ACTIVATION_NAMES = {
    Activation.NONE: "", Activation.RELU: "Relu", Activation.CLIP: "Clip",
    Activation.GELU: "Gelu", Activation.SILU: "Silu",
}  # fmt: skip
_CONVOLUTION_ATTRIBUTES = ("strides", "pads", "dilations", "group")


@dataclass(frozen=True)
class SparseOperator:
    """One custom operator."""

    convolution: bool
    integer_input: bool
    """uint8 activations and int8 weights, rather than fp32 for both."""
    integer_output: bool
    adds: bool
    """Whether a tensor of the result's shape is added before the activation."""
    activation: Activation = Activation.NONE
    normalizes: bool = False
    """Whether a LayerNormalization ends it: of a matrix product in fp32, without activation."""
    bf16: bool = False
    """Whether both factors, of a matrix product in fp32, are rounded to bf16 before they meet."""

    @property
    def name(self) -> str:
        """Operator type in the model."""
        to_float = self.integer_input and not self.integer_output
        return (
            f"{'Q' if self.integer_input else 'B' if self.bf16 else ''}"
            f"Sparse{'Conv' if self.convolution else 'MatMul'}"
            f"{'ToFloat' if to_float else ''}{'Add' if self.adds else ''}"
            f"{_ACTIVATION_NAMES[self.activation]}{'Norm' if self.normalizes else ''}"
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        integer = self.integer_input
        clips = self.activation is Activation.CLIP
        return (
            "x", *(("x_step", "x_zero") if integer else ()), "values", "gaps", "runs_shape",
            "weight_shape", *(("weight_steps",) if integer else ()), "bias",
            *(("low", "high") if clips else ()),
            *(("y_step", "y_zero") if self.integer_output else ()),
            *(("norm_scale", "norm_shift") if self.normalizes else ()),
            *(("residual",) if self.adds else ()),
        )  # fmt: skip

    @property
    def _attributes(self) -> tuple[str, ...]:
        """Of the function, which its nodes refer to."""
        norm = ("epsilon",) if self.normalizes else ()
        return _CONVOLUTION_ATTRIBUTES if self.convolution else norm

    def function(self, opset: int) -> ir.Function:
        """The dense meaning.

        Args:
            opset: version of the ONNX operators that the model uses, 13 or later.
        """
        attributes = f"<{', '.join(self._attributes)}>" if self._attributes else ""
        text = (
            f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
            f"{self.name} {attributes} ({', '.join(self.inputs)}) => (y)\n"
            "{\n" + "\n".join([*self._weight(), *self._product(), *self._epilogue(opset)]) + "\n}"
        )
        return ir.serde.deserialize_function(onnx.parser.parse_function(text))

    def _weight(self) -> list[str]:
        """The dense weight from its runs; folded when the model is loaded."""
        empty = "int8[1] {0}" if self.integer_input else "float[1] {0}"
        order = "0, 3, 1, 2" if self.convolution else "1, 0"
        lines = [
            "one = Constant <value_int = 1> ()",
            "first_axis = Constant <value_int = 0> ()",
            "last_axis = Constant <value_ints = [1]> ()",
            "distances = Cast <to = 7> (gaps)",
            "ends = CumSum (distances, first_axis)",
            "positions = Sub (ends, one)",
            "places = Unsqueeze (positions, last_axis)",
            f"empty = ConstantOfShape <value = {empty}> (runs_shape)",
            *(["numbers = Cast <to = 1> (values)"] if self.bf16 else []),
            f"runs = ScatterND (empty, places, {'numbers' if self.bf16 else 'values'})",
            "matrix = Reshape (runs, weight_shape)",
            f"weight = Transpose <perm = [{order}]> (matrix)",
        ]
        if self.integer_input:
            axis = 0 if self.convolution else 1
            lines += [
                "x_real = DequantizeLinear (x, x_step, x_zero)",
                f"weight_real = DequantizeLinear <axis = {axis}> (weight, weight_steps)",
            ]
        if self.bf16:
            lines += ["x_rounded = Cast <to = 16> (x)", "x_real = Cast <to = 1> (x_rounded)"]
        return lines

    def _product(self) -> list[str]:
        weight = "weight_real" if self.integer_input else "weight"
        x = "x_real" if self.integer_input or self.bf16 else "x"
        if self.convolution:
            kinds = ("ints", "ints", "ints", "int")
            passed = ", ".join(
                f"{name}: {kind} = @{name}"
                for name, kind in zip(_CONVOLUTION_ATTRIBUTES, kinds, strict=True)
            )
            return [f"product = Conv <{passed}> ({x}, {weight}, bias)"]
        return [f"plain = MatMul ({x}, {weight})", "product = Add (plain, bias)"]

    def _epilogue(self, opset: int) -> list[str]:
        lines, value = [], "product"
        if self.adds:
            lines, value = ["sum = Add (product, residual)"], "sum"
        if self.normalizes:
            return [*lines, *_normalized(value, opset)]
        result = "y_real" if self.integer_output else "y"
        lines += {
            Activation.NONE: [f"{result} = Identity ({value})"],
            Activation.RELU: [f"{result} = Relu ({value})"],
            Activation.CLIP: [f"{result} = Clip ({value}, low, high)"],
            Activation.GELU: [
                "root = Constant <value_float = 0.70710678> ()",
                "half = Constant <value_float = 0.5> ()",
                "unit = Constant <value_float = 1.0> ()",
                f"scaled = Mul ({value}, root)",
                "error = Erf (scaled)",
                "raised = Add (error, unit)",
                f"weighted = Mul ({value}, raised)",
                f"{result} = Mul (weighted, half)",
            ],
            Activation.SILU: [f"gate = Sigmoid ({value})", f"{result} = Mul ({value}, gate)"],
        }[self.activation]
        if self.integer_output:
            lines.append("y = QuantizeLinear (y_real, y_step, y_zero)")
        return lines


def _normalized(value: str, opset: int) -> list[str]:
    """LayerNormalization over the last axis, spelled out where the opset has none."""
    if opset >= _NORMALIZES_FROM:
        given = f"({value}, norm_scale, norm_shift)"
        return [f"y = LayerNormalization <axis = -1, epsilon: float = @epsilon> {given}"]
    return [
        f"mean = ReduceMean <axes = [-1]> ({value})",
        f"off = Sub ({value}, mean)",
        "squares = Mul (off, off)",
        "variance = ReduceMean <axes = [-1]> (squares)",
        "least = Constant <value_float: float = @epsilon> ()",
        "raised = Add (variance, least)",
        "deviation = Sqrt (raised)",
        "unit = Div (off, deviation)",
        "scaled = Mul (unit, norm_scale)",
        "y = Add (scaled, norm_shift)",
    ]


@dataclass(frozen=True)
class StoredRuns:
    """The runs of a weight as a model stores them."""

    values: Weights
    """(runs, run)"""
    gaps: npt.NDArray[np.uint8]
    """(runs,): distance from the position before; the first counts from -1."""


def store_runs(positions: npt.NDArray[np.int64], values: Weights) -> StoredRuns:
    """Encode positions as gaps of one byte; runs of zeros bridge what is longer.

    Args:
        positions: flat index of each run, ascending.
        values: (runs, run).
    """
    gaps = np.diff(positions, prepend=-1)
    bridges = (gaps - 1) // _LONGEST_GAP
    # every run stands behind the zero runs that lead to it
    ends = np.cumsum(bridges + 1) - 1
    stored = np.zeros((int((bridges + 1).sum()), values.shape[1]), values.dtype)
    stored[ends] = values
    bytes_ = np.full(len(stored), _LONGEST_GAP, np.uint8)
    bytes_[ends] = (gaps - bridges * _LONGEST_GAP).astype(np.uint8)
    return StoredRuns(stored, bytes_)
