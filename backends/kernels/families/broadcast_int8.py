"""Broadcast family for int8: blocks of four weights along the depth against columns of bytes.

A tile holds four consecutive features of a column in one 32-bit word, so that a word of four
int8 weights, spread over all lanes, meets a register of columns in one `vpdpbusd` (uint8 times
int8, four products added to an int32). Otherwise this is `broadcast_fp32`: the same packing, the
same groups of output channels. Sums are exact modulo 2^32 on every instruction set: where
`vpdpbusd` is missing, bytes are widened to int16 and multiplied by `pmaddwd`, which unlike
`vpmaddubsw` never saturates. Arm multiplies bytes of one sign only: there a tile holds its uint8
minus 128, as int8, and sums start with what that takes from them (see `csrc/int8.h`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

_SELECT_BYTES = "llvm.x86.avx512.pshuf.b.512"

Dot = Callable[[Any, Any, Any, int], Any]
"""(int32 sums, words of four bytes, words of four int8, lanes) -> int32 sums: registers all."""

_PAIR_PRODUCTS = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}


_SPREADING_LANES = 16
"""Of registers whose bytes a shuffle picks across all of them; others take a broadcast each."""


def dot_by_vnni(sums: Any, words: Any, weights: Any, lanes: int) -> Any:
    """One `vpdpbusd`; its operands are vectors of bytes since LLVM 22.

    The one of 256 bits has one name for both of its encodings, that of AVX-VNNI and of AVX-512.
    """
    return T.call_llvm_pure_intrin(
        T.llvm_lookup_intrinsic_id(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"),
        sums,
        T.reinterpret(words, dtype=f"uint8x{4 * lanes}"),
        T.reinterpret(weights, dtype=f"int8x{4 * lanes}"),
        dtype=f"int32x{lanes}",
    )


def dot_by_pairs(sums: Any, words: Any, weights: Any, lanes: int) -> Any:
    """Even and odd bytes apart, each as pairs of int16, by two `pmaddwd`."""
    intrinsic = T.llvm_lookup_intrinsic_id(_PAIR_PRODUCTS[lanes])
    halves = f"int16x{2 * lanes}"

    def pairs(left: Any, right: Any) -> Any:
        return T.call_llvm_pure_intrin(
            intrinsic, T.reinterpret(left, dtype=halves), right, dtype=f"int32x{lanes}"
        )

    low_bytes = T.broadcast(T.int32(0x00FF00FF), lanes)
    eight = T.broadcast(T.int16(8), 2 * lanes)
    both = T.reinterpret(weights, dtype=halves)
    even = T.shift_right(T.shift_left(both, eight), eight)
    odd = T.shift_right(both, eight)
    odd_words = T.bitwise_and(T.shift_right(words, T.broadcast(T.int32(8), lanes)), low_bytes)
    return sums + pairs(T.bitwise_and(words, low_bytes), even) + pairs(odd_words, odd)


def dot_by_sdot(sums: Any, words: Any, weights: Any, lanes: int) -> Any:
    """One `sdot` of Armv8.2, for words of int8."""
    return T.call_llvm_pure_intrin(
        T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.sdot.v4i32.v16i8"),
        sums,
        T.reinterpret(words, dtype="int8x16"),
        T.reinterpret(weights, dtype="int8x16"),
        dtype="int32x4",
    )


def dot_by_bytes(sums: Any, words: Any, weights: Any, lanes: int) -> Any:
    """`smull` for each half of the words of int8: a product fits into int16, a sum of two not."""
    left = T.reinterpret(words, dtype="int8x16")
    right = T.reinterpret(weights, dtype="int8x16")
    pairs = []
    for half in (range(8), range(8, 16)):
        lane = [T.int32(i) for i in half]
        products = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.smull.v8i16"),
            T.Shuffle([left], lane), T.Shuffle([right], lane), dtype="int16x8",
        )  # fmt: skip
        pairs.append(
            T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.saddlp.v4i32.v8i16"),
                products, dtype="int32x4",
            )
        )  # fmt: skip
    return sums + T.call_llvm_pure_intrin(
        T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.addp.v4i32"), *pairs, dtype="int32x4"
    )


def broadcast_int8(symbol: str, lanes: int, vectors: int, rows: int, dot: Dot) -> Any:
    """One packed block of a sparse int8 weight against one tile.

    Args:
        symbol: global symbol of the function.
        lanes: int32 numbers in a register.
        vectors: registers of columns in a tile.
        rows: output channels that are computed at once, at least two.
        dot: how a word of weights meets a register of columns.

    Returns:
        A `PrimFunc(counts, channels, offsets, values, start, x, y, groups, stride, first)`:
        `y[channel * stride + column]` begins at `start[channel]` where `first` is 1 and goes on
        from what it holds where it is 0. Offsets count words of four features,
        so that one packed weight serves tiles of every width.
    """
    width = lanes * vectors

    together = min(rows, 4)

    # Loads are what this kernel waits for: the offsets of up to four rows come with one.
    def offset(several: Any, row: Any) -> Any:
        bits = T.cast(T.reinterpret(several, dtype=f"uint{16 * together}"), "int64")
        of_row = T.shift_right(bits, T.cast(row % together * 16, "int64"))
        return T.cast(T.bitwise_and(of_row, T.int64(0xFFFF)), "int32")

    # Four weights come with one load too, and are spread by a shuffle, which costs nothing beside
    # the loads. `zero` is one that LLVM cannot tell: it would make four loads of it again.
    def multiplied(sums: Any, words: Any, weights: Any, weight: Any, row: Any, zero: Any) -> Any:
        if dot is not dot_by_vnni or rows % 4 or lanes != _SPREADING_LANES:
            return dot(sums, words, T.broadcast(weight, lanes), lanes)
        selection = T.broadcast(T.int32(0x03020100) + row % 4 * T.int32(0x04040404) + zero, lanes)
        spread = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id(_SELECT_BYTES),
            T.reinterpret(
                T.Shuffle([weights] * 4, [T.int32(i) for i in range(16)]), dtype="uint8x64"
            ),
            T.reinterpret(selection, dtype="uint8x64"),
            dtype="uint8x64",
        )
        return dot_by_vnni(sums, words, T.reinterpret(spread, dtype="int32x16"), lanes)

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
        offsets = T.match_buffer(offsets_, (n_offsets,), "uint16", align=2)
        values = T.match_buffer(values_, (n_values,), "int32", align=4)
        start = T.match_buffer(start_, (n_start,), "int32", align=4)
        x = T.match_buffer(x_, (n_x,), "int32", align=4)
        y = T.match_buffer(y_, (n_y,), "int32", align=4)
        position = T.alloc_buffer((1,), "int32", scope="local")
        position[0] = 0
        for group in T.serial(groups):
            sums = T.alloc_buffer((rows * width,), "int32", scope="local")
            steps: T.let[T.int32] = counts[group]
            begin: T.let[T.int32] = position[0]
            if first == 1:
                for row in T.unroll(rows):
                    from_: T.let[T.int32] = start[channels[group * rows + row]]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = T.broadcast(from_, lanes)
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
                    at: T.let[T.int32] = offset(offsets[T.ramp(first_, 1, together)], row) * width
                    weight: T.let[T.int32] = values[begin + p * rows + row]
                    for v in T.unroll(vectors):
                        sums[T.ramp(row * width + v * lanes, 1, lanes)] = multiplied(
                            sums[T.ramp(row * width + v * lanes, 1, lanes)],
                            x[T.ramp(at + v * lanes, 1, lanes)],
                            values[T.ramp(first_, 1, together)],
                            weight,
                            row,
                            T.shift_right(stride, 31),
                        )
            for row in T.unroll(rows):
                out: T.let[T.int32] = channels[group * rows + row] * stride
                for v in T.unroll(vectors):
                    y[T.ramp(out + v * lanes, 1, lanes)] = sums[
                        T.ramp(row * width + v * lanes, 1, lanes)
                    ]
            position[0] = begin + steps * rows

    return kernel
