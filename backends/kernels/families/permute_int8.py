"""Lane-permute family for int8: every lane is an output channel and picks its own features.

Activations stay row-major. Sixteen consecutive features of a row are spread to all four quarters
of a register; `vpshufb` selects for each lane the four features that its four weights need, and
`vpdpbusd` multiplies and adds. Sixteen features hold 8 non-zeros of 2:4, so two such steps, and 4
of 1:4 or 2:8, so one. Selection and weights are loaded once for `rows` input rows. It wins where
all channels have about as many non-zeros in any stretch of features, as N:M guarantees.

Layout of the packed weight (see `csrc/linear_int8_permute.c`): output channels in groups of
`16 * vectors`; a group has `counts[g]` steps, each with the first of its sixteen features, and 64
bytes of selection and of weights for each register.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

_LANES = 16
_BYTES = 64


def permute_int8(symbol: str, vectors: int, rows: int) -> Any:
    """Some blocks of input rows against a packed weight, with AVX-512 VNNI.

    Args:
        symbol: global symbol of the function.
        vectors: registers of output channels in a group.
        rows: input rows that are computed at once.

    Returns:
        A `PrimFunc(counts, features, selections, weights, start, x, y, groups, blocks, x_stride,
        y_stride)`: `y[row * y_stride + channel]` for `blocks * rows` rows and `groups * 16 *
        vectors` channels. `features` count from the begin of a row of `x`.
    """
    channels = _LANES * vectors

    def spread(features: Any) -> Any:
        return T.Shuffle([features] * 4, [T.int32(i) for i in range(_BYTES)])

    def dot(sums: Any, x: Any, selection: Any, weights: Any) -> Any:
        selected = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.pshuf.b.512"),
            x, selection, dtype="uint8x64",
        )  # fmt: skip
        return T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
            sums, selected, weights, dtype="int32x16",
        )  # fmt: skip

    @T.prim_func(s_tir=True)
    def kernel(
        counts_: T.handle, features_: T.handle, selections_: T.handle, weights_: T.handle,
        start_: T.handle, x_: T.handle, y_: T.handle,
        groups: T.int32, blocks: T.int32, x_stride: T.int32, y_stride: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_counts, n_features, n_selections = T.int32(), T.int32(), T.int32()
        n_weights, n_start, n_x, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        counts = T.match_buffer(counts_, (n_counts,), "int32", align=4)
        features = T.match_buffer(features_, (n_features,), "int32", align=4)
        selections = T.match_buffer(selections_, (n_selections,), "uint8", align=64)
        weights = T.match_buffer(weights_, (n_weights,), "int8", align=64)
        start = T.match_buffer(start_, (n_start,), "int32", align=4)
        x = T.match_buffer(x_, (n_x,), "uint8", align=1)
        y = T.match_buffer(y_, (n_y,), "int32", align=4)
        position = T.alloc_buffer((1,), "int32", scope="local")
        position[0] = 0
        for group in T.serial(groups):
            steps: T.let[T.int32] = counts[group]
            begin: T.let[T.int32] = position[0]
            for block in T.serial(blocks):
                sums = T.alloc_buffer((rows * channels,), "int32", scope="local")
                for row in T.unroll(rows):
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * channels + v * _LANES, 1, _LANES)] = start[
                            T.ramp(group * channels + v * _LANES, 1, _LANES)
                        ]
                for p in T.serial(steps):
                    at: T.let[T.int32] = features[begin + p] + block * rows * x_stride
                    packed: T.let[T.int32] = (begin + p) * (vectors * _BYTES)
                    for row in T.unroll(rows):
                        for v in T.unroll(vectors):
                            sums[T.ramp(row * channels + v * _LANES, 1, _LANES)] = dot(
                                sums[T.ramp(row * channels + v * _LANES, 1, _LANES)],
                                spread(x[T.ramp(at + row * x_stride, 1, 16)]),
                                selections[T.ramp(packed + v * _BYTES, 1, _BYTES)],
                                weights[T.ramp(packed + v * _BYTES, 1, _BYTES)],
                            )
                for row in T.unroll(rows):
                    out: T.let[T.int32] = (block * rows + row) * y_stride + group * channels
                    for v in T.unroll(vectors):
                        y[T.ramp(out + v * _LANES, 1, _LANES)] = sums[
                            T.ramp(row * channels + v * _LANES, 1, _LANES)
                        ]
            position[0] = begin + steps

    return kernel
