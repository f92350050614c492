"""The broadcast family for int8 with offsets of 32 bits: what a convolution needs.

A convolution's planes lie further apart than 16 bits can count, and its tiles are cut out of
them, so that an offset counts words of four channels from the first word of the tile.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from backends.kernels.families.broadcast_int8 import Dot


def broadcast_int8_wide(symbol: str, lanes: int, vectors: int, dot: Dot) -> Any:
    """One packed block of a sparse int8 weight against one tile, one output channel at a time.

    Args:
        symbol: global symbol of the function.
        lanes: int32 numbers in a register.
        vectors: registers of positions in a tile.
        dot: how a word of weights meets a register of positions.

    Returns:
        A `PrimFunc(counts, channels, offsets, values, start, x, y, groups, stride, first)`, as
        `broadcast_fp32` with offsets `int32`, of words.
    """
    width = lanes * vectors

    @T.prim_func(s_tir=True)
    def kernel(
        counts_: T.handle, channels_: T.handle, offsets_: T.handle, values_: T.handle,
        start_: T.handle, x_: T.handle, y_: T.handle,
        groups: T.int32, stride: T.int32, first: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_counts, n_channels, n_offsets = T.int32(), T.int32(), T.int32()
        n_values, n_start, n_x, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        counts = T.match_buffer(counts_, (n_counts,), "int32", align=4)
        channels = T.match_buffer(channels_, (n_channels,), "int32", align=4)
        offsets = T.match_buffer(offsets_, (n_offsets,), "int32", align=4)
        values = T.match_buffer(values_, (n_values,), "int32", align=4)
        start = T.match_buffer(start_, (n_start,), "int32", align=4)
        x = T.match_buffer(x_, (n_x,), "int32", align=4)
        y = T.match_buffer(y_, (n_y,), "int32", align=4)
        position = T.alloc_buffer((1,), "int32")
        position[0] = 0
        for group in T.serial(groups):
            sums = T.alloc_buffer((width,), "int32")
            steps: T.let[T.int32] = counts[group]
            begin: T.let[T.int32] = position[0]
            channel: T.let[T.int32] = channels[group]
            if first == 1:
                for v in T.unroll(vectors):
                    sums[T.ramp(v * lanes, 1, lanes)] = T.broadcast(start[channel], lanes)
            else:
                for v in T.unroll(vectors):
                    sums[T.ramp(v * lanes, 1, lanes)] = y[
                        T.ramp(channel * stride + v * lanes, 1, lanes)
                    ]
            for p in T.serial(steps):
                at: T.let[T.int32] = offsets[begin + p]
                weight: T.let[T.int32] = values[begin + p]
                for v in T.unroll(vectors):
                    sums[T.ramp(v * lanes, 1, lanes)] = dot(
                        sums[T.ramp(v * lanes, 1, lanes)],
                        x[T.ramp(at + v * lanes, 1, lanes)],
                        weight,
                        lanes,
                    )
            for v in T.unroll(vectors):
                y[T.ramp(channel * stride + v * lanes, 1, lanes)] = sums[
                    T.ramp(v * lanes, 1, lanes)
                ]
            position[0] = begin + steps

    return kernel
