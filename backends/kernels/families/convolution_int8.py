"""Convolutions in int8: the broadcast family, which also finishes what it computes.

As `broadcast_int8`, one output channel at a time (or several of a dense layer, which share their
offsets, see `convolution_fp32`), with offsets of 32 bits: a convolution's planes
lie further apart than 16 bits can count, and its tiles are cut out of them, so that an offset
counts words of four channels from the first word of the tile. The last depth block turns the sums
into uint8 of the next layer's grid, where positions of the planes are positions of the output:
writing int32 and reading them again would take as long as the products.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from backends.kernels.families.broadcast_int8 import Dot

_ROUNDING = 12582912.0
"""1.5 * 2^23: beside it, floats are integers, rounded half to even, and its low byte is zero."""


def convolution_int8(symbol: str, lanes: int, vectors: int, rows: int, dot: Dot) -> Any:
    """One packed depth block of an int8 convolution against one tile of positions.

    Args:
        symbol: global symbol of the function.
        lanes: int32 numbers in a register.
        vectors: registers of positions in a tile.
        rows: output channels with the same offsets: 1, or more of a dense layer.
        dot: how a word of weights meets a register of positions.

    Returns:
        A `PrimFunc(counts, channels, offsets, values, start, x, y, scales, shifts, bounds, output,
        groups, stride, output_stride, first, last, zero)`: sums start at `start[channel]` where
        `first` is 1 and at `y[channel * stride + position]` where it is 0. They go to `y` where
        `last` is 0, else to `output[channel * output_stride + position]` as
        `round(bounded(sum * scales[channel] + shifts[channel])) + zero`. `bounds` are the
        activation's two, which let NaN pass, and the lowest step of the grid, which does not.
    """
    width = lanes * vectors

    @T.prim_func(s_tir=True)
    def kernel(
        counts_: T.handle, channels_: T.handle, offsets_: T.handle, values_: T.handle,
        start_: T.handle, x_: T.handle, y_: T.handle, scales_: T.handle, shifts_: T.handle,
        bounds_: T.handle, output_: T.handle, groups: T.int32, stride: T.int32,
        output_stride: T.int32, first: T.int32, last: T.int32, zero: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_counts, n_channels, n_offsets = T.int32(), T.int32(), T.int32()
        n_values, n_start, n_x, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        n_scales, n_shifts, n_bounds, n_output = T.int32(), T.int32(), T.int32(), T.int32()
        counts = T.match_buffer(counts_, (n_counts,), "int32", align=4)
        channels = T.match_buffer(channels_, (n_channels,), "int32", align=4)
        offsets = T.match_buffer(offsets_, (n_offsets,), "int32", align=4)
        values = T.match_buffer(values_, (n_values,), "int32", align=4)
        start = T.match_buffer(start_, (n_start,), "int32", align=4)
        x = T.match_buffer(x_, (n_x,), "int32", align=4)
        y = T.match_buffer(y_, (n_y,), "int32", align=4)
        scales = T.match_buffer(scales_, (n_scales,), "float32", align=4)
        shifts = T.match_buffer(shifts_, (n_shifts,), "float32", align=4)
        bounds = T.match_buffer(bounds_, (n_bounds,), "float32", align=4)
        output = T.match_buffer(output_, (n_output,), "uint8", align=1)
        # not of scope "local", which TVM asks for at run time: these are to become registers
        position = T.alloc_buffer((1,), "int32")
        position[0] = 0
        for group in T.serial(groups):
            sums = T.alloc_buffer((rows * width,), "int32")
            steps: T.let[T.int32] = counts[group]
            begin: T.let[T.int32] = position[0]
            if first == 1:
                for row in T.unroll(rows):
                    from_: T.let[T.int32] = start[channels[group * rows + row]]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = T.broadcast(from_, lanes)
            else:
                for row in T.unroll(rows):
                    held: T.let[T.int32] = channels[group * rows + row] * stride
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = y[
                            T.ramp(held + v * lanes, 1, lanes)
                        ]
            for p in T.serial(steps):
                at: T.let[T.int32] = offsets[begin + p]
                for row in T.unroll(rows):
                    weight: T.let[T.int32] = values[(begin + p) * rows + row]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = dot(
                            sums[T.ramp(row * width + v * lanes, 1, lanes)],
                            x[T.ramp(at + v * lanes, 1, lanes)],
                            T.broadcast(weight, lanes),
                            lanes,
                        )
            if last == 1:
                for row in T.unroll(rows):
                    channel: T.let[T.int32] = channels[group * rows + row]
                    out: T.let[T.int32] = channel * output_stride
                    scale: T.let[T.float32] = scales[channel]
                    shift: T.let[T.float32] = shifts[channel]
                    for v in T.unroll(vectors):
                        real = T.cast(
                            sums[T.ramp(row * width + v * lanes, 1, lanes)], f"float32x{lanes}"
                        ) * T.broadcast(scale, lanes) + T.broadcast(shift, lanes)
                        bounded = T.min(
                            T.broadcast(bounds[1], lanes),
                            T.max(T.broadcast(bounds[0], lanes), real),
                        )
                        rounded = T.max(bounded, T.broadcast(bounds[2], lanes)) + T.broadcast(
                            T.float32(_ROUNDING), lanes
                        )
                        output[T.ramp(out + v * lanes, 1, lanes)] = T.cast(
                            T.reinterpret(rounded, dtype=f"int32x{lanes}")
                            + T.broadcast(zero, lanes),
                            f"uint8x{lanes}",
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
