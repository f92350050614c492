"""Convolutions in fp32: the broadcast family, which also finishes what it computes.

As `broadcast_fp32`, with offsets of 32 bits into padded planes, and one output channel at a time:
several would read different planes. Those of a dense layer read the same ones, so `rows` of them
share an offset and what is loaded from there. The last depth block adds the residual, applies the
bounds of the activation and writes the output itself, where positions of the planes are positions
of the output: sums never leave the registers.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


def convolution_fp32(symbol: str, lanes: int, vectors: int, rows: int) -> Any:
    """One packed depth block of an fp32 convolution against one tile of positions.

    Args:
        symbol: global symbol of the function.
        lanes: floats in a register.
        vectors: registers of positions in a tile.
        rows: output channels with the same offsets: 1, or more of a dense layer.

    Returns:
        A `PrimFunc(counts, channels, offsets, values, bias, x, y, residual, output, bounds,
        groups, stride, output_stride, first, last, adds)`: sums start at `bias[channel]` where
        `first` is 1 and at `y[channel * stride + position]` where it is 0. They go to `y` where
        `last` is 0, else to `output[channel * output_stride + position]`, bounded by the two
        numbers in `bounds`, after `residual` was added where `adds` is 1. NaN stays NaN.
    """
    width = lanes * vectors

    @T.prim_func(s_tir=True)
    def kernel(
        counts_: T.handle, channels_: T.handle, offsets_: T.handle, values_: T.handle,
        bias_: T.handle, x_: T.handle, y_: T.handle, residual_: T.handle, output_: T.handle,
        bounds_: T.handle, groups: T.int32, stride: T.int32, output_stride: T.int32,
        first: T.int32, last: T.int32, adds: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_counts, n_channels, n_offsets = T.int32(), T.int32(), T.int32()
        n_values, n_bias, n_x, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        n_residual, n_output, n_bounds = T.int32(), T.int32(), T.int32()
        counts = T.match_buffer(counts_, (n_counts,), "int32", align=4)
        channels = T.match_buffer(channels_, (n_channels,), "int32", align=4)
        offsets = T.match_buffer(offsets_, (n_offsets,), "int32", align=4)
        values = T.match_buffer(values_, (n_values,), "float32", align=4)
        bias = T.match_buffer(bias_, (n_bias,), "float32", align=4)
        x = T.match_buffer(x_, (n_x,), "float32", align=4)
        y = T.match_buffer(y_, (n_y,), "float32", align=4)
        residual = T.match_buffer(residual_, (n_residual,), "float32", align=4)
        output = T.match_buffer(output_, (n_output,), "float32", align=4)
        bounds = T.match_buffer(bounds_, (n_bounds,), "float32", align=4)
        # not of scope "local", which TVM asks for at run time: these are to become registers
        position = T.alloc_buffer((1,), "int32")
        position[0] = 0
        for group in T.serial(groups):
            sums = T.alloc_buffer((rows * width,), "float32")
            steps: T.let[T.int32] = counts[group]
            begin: T.let[T.int32] = position[0]
            if first == 1:
                for row in T.unroll(rows):
                    start: T.let[T.float32] = bias[channels[group * rows + row]]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = T.broadcast(start, lanes)
            else:
                for row in T.unroll(rows):
                    from_: T.let[T.int32] = channels[group * rows + row] * stride
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = y[
                            T.ramp(from_ + v * lanes, 1, lanes)
                        ]
            for p in T.serial(steps):
                at: T.let[T.int32] = offsets[begin + p]
                for row in T.unroll(rows):
                    weight: T.let[T.float32] = values[(begin + p) * rows + row]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = (
                            sums[T.ramp(row * width + v * lanes, 1, lanes)]
                            + T.broadcast(weight, lanes) * x[T.ramp(at + v * lanes, 1, lanes)]
                        )
            if last == 1:
                for row in T.unroll(rows):
                    out: T.let[T.int32] = channels[group * rows + row] * output_stride
                    if adds == 1:
                        for v in T.unroll(vectors):
                            sums[T.ramp(row * width + v * lanes, 1, lanes)] = (
                                sums[T.ramp(row * width + v * lanes, 1, lanes)]
                                + residual[T.ramp(out + v * lanes, 1, lanes)]
                            )
                    for v in T.unroll(vectors):
                        output[T.ramp(out + v * lanes, 1, lanes)] = T.min(
                            T.broadcast(bounds[1], lanes),
                            T.max(
                                T.broadcast(bounds[0], lanes),
                                sums[T.ramp(row * width + v * lanes, 1, lanes)],
                            ),
                        )
            else:
                for row in T.unroll(rows):
                    into: T.let[T.int32] = channels[group * rows + row] * stride
                    for v in T.unroll(vectors):
                        y[T.ramp(into + v * lanes, 1, lanes)] = sums[
                            T.ramp(row * width + v * lanes, 1, lanes)
                        ]
            position[0] = begin + steps

    return kernel
