"""Permute family: output channels in the lanes, inputs chosen for them by a lane permutation.

Activations stay row-major. As many output channels as a register has lanes make a slice; each
keeps its own lane of one accumulator. A step loads a window of consecutive features, picks for
every lane the feature that its next non-zero wants (`vpermi2ps` out of two registers, or `vpermps`
out of one) and multiplies it with that lane's weight, so that one step does a non-zero of every
channel for each input row. It wins for few rows, where the broadcast family would have nothing to
put beside each other.

Layout of the packed weight (see `csrc/linear_permute.c`): step `p` of the slices, one after
another, has `starts[p]`, the register of features at which its window begins, and for each lane a
byte of `picks`, the place in the window, and one of `values`; a slice has an even number of steps.
Windows slide: each begins where the lane that is furthest behind goes on, which leaves a third
less to fill up than windows on a fixed grid would, and needs no loop whose length the processor
cannot predict.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

_OF_TWO = "llvm.x86.avx512.vpermi2var.ps.512"
_OF_ONE = "llvm.x86.avx2.permps"


def permute_fp32(symbol: str, lanes: int, vectors: int, rows: int) -> Any:
    """Some slices of a sparse fp32 weight against some rows of the input.

    Args:
        symbol: global symbol of the function.
        lanes: floats in a register: 16, or 8 of AVX2.
        vectors: registers of features in a window: 2 or 4.
        rows: input rows that are computed at once.

    Returns:
        A `PrimFunc(counts, starts, picks, values, bias, x, y, slices, x_stride, y_stride)`:
        `y[row * y_stride + slice * lanes + lane]` becomes bias plus product. A row of `x` must hold
        whole windows.
    """
    # Two sums for each output where so few rows would leave the processor waiting for one.
    chains = 2 if rows <= 2 else 1
    wide = f"int32x{lanes}"

    def window(x: Any, at: Any, picks: Any, registers: int) -> Any:
        """The lanes that `picks` (int32 of each lane) names in registers of `x`."""
        if registers == lanes // 8:
            names = [x[T.ramp(at + r * lanes, 1, lanes)] for r in range(registers)]
            operands = [names[0], picks, *names[1:]]
            permute = T.llvm_lookup_intrinsic_id(_OF_TWO if registers == 2 else _OF_ONE)
            return T.call_llvm_pure_intrin(permute, *operands, dtype=f"float32x{lanes}")
        half = registers // 2
        bit = T.bitwise_and(picks, T.broadcast(T.int32(half * lanes), lanes))
        return T.Select(
            bit != T.broadcast(T.int32(0), lanes),
            window(x, at + half * lanes, picks, half),
            window(x, at, picks, half),
        )

    @T.prim_func(s_tir=True)
    def kernel(
        counts_: T.handle, starts_: T.handle, picks_: T.handle, values_: T.handle,
        bias_: T.handle, x_: T.handle, y_: T.handle,
        slices: T.int32, x_stride: T.int32, y_stride: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_counts, n_starts, n_picks = T.int32(), T.int32(), T.int32()
        n_values, n_bias, n_x, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        counts = T.match_buffer(counts_, (n_counts,), "int32", align=4)
        starts = T.match_buffer(starts_, (n_starts,), "uint16", align=2)
        picks = T.match_buffer(picks_, (n_picks,), "uint8", align=1)
        values = T.match_buffer(values_, (n_values,), "float32", align=4)
        bias = T.match_buffer(bias_, (n_bias,), "float32", align=4)
        x = T.match_buffer(x_, (n_x,), "float32", align=4)
        y = T.match_buffer(y_, (n_y,), "float32", align=4)
        position = T.alloc_buffer((1,), "int32", scope="local")
        position[0] = 0
        for slice_ in T.serial(slices):
            sums = T.alloc_buffer((chains * rows * lanes,), "float32", scope="local")
            begin: T.let[T.int32] = position[0]
            steps: T.let[T.int32] = counts[slice_]
            for row in T.unroll(rows):
                sums[T.ramp(row * lanes, 1, lanes)] = bias[T.ramp(slice_ * lanes, 1, lanes)]
            for chain in T.unroll(chains - 1):
                for row in T.unroll(rows):
                    sums[T.ramp((rows + chain * rows + row) * lanes, 1, lanes)] = T.broadcast(
                        T.float32(0), lanes
                    )
            for p in T.serial(steps // chains):
                for chain in T.unroll(chains):
                    step: T.let[T.int32] = begin + p * chains + chain
                    start: T.let[T.int32] = T.cast(starts[step], "int32") * lanes
                    for row in T.unroll(rows):
                        sums[T.ramp((chain * rows + row) * lanes, 1, lanes)] = (
                            sums[T.ramp((chain * rows + row) * lanes, 1, lanes)]
                            + window(
                                x,
                                start + row * x_stride,
                                T.cast(picks[T.ramp(step * lanes, 1, lanes)], wide),
                                vectors,
                            )
                            * values[T.ramp(step * lanes, 1, lanes)]
                        )
            for chain in T.unroll(chains - 1):
                for row in T.unroll(rows):
                    sums[T.ramp(row * lanes, 1, lanes)] = (
                        sums[T.ramp(row * lanes, 1, lanes)]
                        + sums[T.ramp((rows + chain * rows + row) * lanes, 1, lanes)]
                    )
            for row in T.unroll(rows):
                y[T.ramp(row * y_stride + slice_ * lanes, 1, lanes)] = sums[
                    T.ramp(row * lanes, 1, lanes)
                ]
            position[0] = begin + steps

    return kernel
