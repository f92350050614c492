"""Broadcast family: one weight against vectors of columns that lie side by side in memory.

Activations are feature-major: feature `k` of a tile is a run of `vectors` registers. Every
non-zero loads its weight once, spread over all lanes, and multiplies it with such a run; the
accumulators of `rows` output channels stay in registers. A matrix product gives each feature an
offset in a packed tile; a convolution gives each weight the offset of its shifted input plane, so
that both are the same kernel. It wins for many columns.

Layout of the packed weight (see `csrc/packing.c`): output channels are sorted by their number of
non-zeros and taken in groups of `rows`; a group has `counts[g]` steps, and step `p` holds `rows`
pairs (offset, weight), interleaved. Shorter rows are filled up with weight zero.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

_SELECT_BYTES = "llvm.x86.avx512.pshuf.b.512"
_SHUFFLED_LANES = 16


def broadcast_fp32(
    symbol: str, lanes: int, vectors: int, rows: int, offset: str, unit: int = 1
) -> Any:
    """One packed block of a sparse fp32 weight against one tile.

    Args:
        symbol: global symbol of the function.
        lanes: floats in a register.
        vectors: registers of columns in a tile.
        rows: output channels that are computed at once.
        offset: integer type of the offsets, `uint16` or `int32`.
        unit: floats that an offset counts by.

    Returns:
        A `PrimFunc(counts, channels, offsets, values, bias, x, y, groups, stride, first)`:
        `y[channel * stride + column]` starts at `bias[channel]` where `first` is 1 and goes on
        from what it holds where it is 0.
    """
    width = lanes * vectors
    together = 4 if lanes == _SHUFFLED_LANES and offset == "uint16" and rows % 4 == 0 else 1

    # Loads are what this kernel waits for: with AVX-512, the offsets of four rows come with one.
    def loaded(first: Any) -> Any:
        return first if together == 1 else T.ramp(first, 1, together)

    def place(several: Any, row: Any) -> Any:
        if together == 1:
            return T.cast(several, "int32") * unit
        bits = T.cast(T.reinterpret(several, dtype="uint64"), "int64")
        of_row = T.shift_right(bits, T.cast(row % together * 16, "int64"))
        return T.cast(T.bitwise_and(of_row, T.int64(0xFFFF)), "int32") * unit

    # Four weights come with one load, too, and are spread by a shuffle. `zero` is one that LLVM
    # cannot tell: it would make four loads of it again.
    def spread(several: Any, row: Any, zero: Any) -> Any:
        if together == 1:
            return T.broadcast(several, lanes)
        selection = T.broadcast(T.int32(0x03020100) + row % 4 * T.int32(0x04040404) + zero, lanes)
        return T.reinterpret(
            T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(_SELECT_BYTES),
                T.reinterpret(
                    T.Shuffle([several] * 4, [T.int32(i) for i in range(16)]), dtype="uint8x64"
                ),
                T.reinterpret(selection, dtype="uint8x64"),
                dtype="uint8x64",
            ),
            dtype=f"float32x{lanes}",
        )

    @T.prim_func(s_tir=True)
    def kernel(
        counts_: T.handle, channels_: T.handle, offsets_: T.handle, values_: T.handle,
        bias_: T.handle, x_: T.handle, y_: T.handle,
        groups: T.int32, stride: T.int32, first: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        n_counts, n_channels, n_offsets = T.int32(), T.int32(), T.int32()
        n_values, n_bias, n_x, n_y = T.int32(), T.int32(), T.int32(), T.int32()
        counts = T.match_buffer(counts_, (n_counts,), "int32", align=4)
        channels = T.match_buffer(channels_, (n_channels,), "int32", align=4)
        offsets = T.match_buffer(offsets_, (n_offsets,), offset, align=2)
        values = T.match_buffer(values_, (n_values,), "float32", align=4)
        bias = T.match_buffer(bias_, (n_bias,), "float32", align=4)
        x = T.match_buffer(x_, (n_x,), "float32", align=4)
        y = T.match_buffer(y_, (n_y,), "float32", align=4)
        position = T.alloc_buffer((1,), "int32", scope="local")
        position[0] = 0
        for group in T.serial(groups):
            sums = T.alloc_buffer((rows * width,), "float32", scope="local")
            steps: T.let[T.int32] = counts[group]
            begin: T.let[T.int32] = position[0]
            if first == 1:
                for row in T.unroll(rows):
                    start: T.let[T.float32] = bias[channels[group * rows + row]]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = T.broadcast(start, lanes)
            else:
                for row in T.unroll(rows):
                    into: T.let[T.int32] = channels[group * rows + row] * stride
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = y[
                            T.ramp(into + v * lanes, 1, lanes)
                        ]
            for p in T.serial(steps):
                for row in T.unroll(rows):
                    first_: T.let[T.int32] = begin + p * rows + row - row % together
                    at: T.let[T.int32] = place(offsets[loaded(first_)], row)
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = (
                            sums[T.ramp(row * width + v * lanes, 1, lanes)]
                            + spread(values[loaded(first_)], row, T.shift_right(stride, 31))
                            * x[T.ramp(at + v * lanes, 1, lanes)]
                        )
            for row in T.unroll(rows):
                out: T.let[T.int32] = channels[group * rows + row] * stride
                for v in T.unroll(vectors):
                    y[T.ramp(out + v * lanes, 1, lanes)] = sums[
                        T.ramp(row * width + v * lanes, 1, lanes)
                    ]
            position[0] = begin + steps * rows

    return kernel
