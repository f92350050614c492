"""Dense family: rows of the input, a number at a time, against panels of output channels.

A panel holds `vectors` registers of output channels for every feature, side by side. A number of
the input is spread over all lanes and meets the panel's registers of its feature; the sums of
`rows` rows stay in registers. So input and output stay row-major, and nothing is turned. Whatever
has no zeros to skip runs here: dense layers, and products of two tensors, whose right one is packed
first.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from backends.kernels.families.broadcast_int8 import Dot


def dense_fp32(symbol: str, lanes: int, vectors: int, rows: int) -> Any:
    """Some rows of fp32 input against one panel.

    Args:
        symbol: global symbol of the function.
        lanes: floats in a register.
        vectors: registers of output channels in the panel.
        rows: rows that are computed at once.

    Returns:
        A `PrimFunc(x, panel, bias, y, groups, depth, x_stride, y_stride, first)`: row `i` of `y`
        starts at `bias` where `first` is 1 and goes on from what it holds where it is 0; it gets
        the sum of `x[i * x_stride + k] * panel[k]` over `depth` features. There are `groups` times
        `rows` of them.
    """
    width = lanes * vectors

    @T.prim_func(s_tir=True)
    def kernel(
        x_: T.handle, panel_: T.handle, bias_: T.handle, y_: T.handle,
        groups: T.int32, depth: T.int32, x_stride: T.int32, y_stride: T.int32, first: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_x, n_panel, n_bias, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        x = T.match_buffer(x_, (n_x,), "float32", align=4)
        panel = T.match_buffer(panel_, (n_panel,), "float32", align=4)
        bias = T.match_buffer(bias_, (n_bias,), "float32", align=4)
        y = T.match_buffer(y_, (n_y,), "float32", align=4)
        for group in T.serial(groups):
            # not of scope "local", which TVM asks for at run time: these are to become registers
            sums = T.alloc_buffer((rows * width,), "float32")
            for row in T.unroll(rows):
                for v in T.unroll(vectors):
                    if first == 1:
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = bias[
                            T.ramp(v * lanes, 1, lanes)
                        ]
                    else:
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = y[
                            T.ramp((group * rows + row) * y_stride + v * lanes, 1, lanes)
                        ]
            for k in T.serial(depth):
                for row in T.unroll(rows):
                    number: T.let[T.float32] = x[(group * rows + row) * x_stride + k]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = (
                            sums[T.ramp(row * width + v * lanes, 1, lanes)]
                            + T.broadcast(number, lanes)
                            * panel[T.ramp(k * width + v * lanes, 1, lanes)]
                        )
            for row in T.unroll(rows):
                for v in T.unroll(vectors):
                    y[T.ramp((group * rows + row) * y_stride + v * lanes, 1, lanes)] = sums[
                        T.ramp(row * width + v * lanes, 1, lanes)
                    ]

    return kernel


def dense_int8(symbol: str, lanes: int, vectors: int, rows: int, dot: Dot, sign_bits: int) -> Any:
    """Some rows of uint8 input against one panel of int8.

    Args:
        symbol: global symbol of the function.
        lanes: int32 numbers in a register.
        vectors: registers of output channels in the panel.
        rows: rows that are computed at once.
        dot: how a register of words of the input meets one of the panel.
        sign_bits: what is turned in every word of the input first; see `csrc/int8.h`.

    Returns:
        A `PrimFunc(x, panel, start, y, groups, words, x_stride, y_stride)`: as `dense_fp32`, of
        words of four features, all of them at once; `y` holds the sums.
    """
    width = lanes * vectors

    @T.prim_func(s_tir=True)
    def kernel(
        x_: T.handle, panel_: T.handle, start_: T.handle, y_: T.handle,
        groups: T.int32, words: T.int32, x_stride: T.int32, y_stride: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_x, n_panel, n_start, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        x = T.match_buffer(x_, (n_x,), "int32", align=4)
        panel = T.match_buffer(panel_, (n_panel,), "int32", align=4)
        start = T.match_buffer(start_, (n_start,), "int32", align=4)
        y = T.match_buffer(y_, (n_y,), "int32", align=4)
        for group in T.serial(groups):
            sums = T.alloc_buffer((rows * width,), "int32")
            for row in T.unroll(rows):
                for v in T.unroll(vectors):
                    sums[T.ramp(row * width + v * lanes, 1, lanes)] = start[
                        T.ramp(v * lanes, 1, lanes)
                    ]
            for k in T.serial(words):
                for row in T.unroll(rows):
                    word: T.let[T.int32] = T.bitwise_xor(
                        x[(group * rows + row) * x_stride + k], T.int32(sign_bits)
                    )
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = dot(
                            sums[T.ramp(row * width + v * lanes, 1, lanes)],
                            T.broadcast(word, lanes),
                            panel[T.ramp(k * width + v * lanes, 1, lanes)],
                            lanes,
                        )
            for row in T.unroll(rows):
                for v in T.unroll(vectors):
                    y[T.ramp((group * rows + row) * y_stride + v * lanes, 1, lanes)] = sums[
                        T.ramp(row * width + v * lanes, 1, lanes)
                    ]

    return kernel
