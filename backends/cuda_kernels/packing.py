"""Weights in the order in which the tensor cores' registers take them.

A fragment is 16 outputs by one step of the depth, which is 64 bytes of a token's activations: 32
features in 16 bits, 64 in 8. It is stored as the 16 bytes of lane 0, those of lane 1, and so on:
four registers of a lane, with which one instruction multiplies. Two such parts make a dense
fragment; a 2:4 one has half of the weights, in one part. The fragments of 16 outputs follow each
other along the depth; rows and steps that are missing are zeros.

In the tables of the PTX ISA a register of lane 4g + t holds four bytes of one output: of output g
in registers 0 and 2, of g + 8 in 1 and 3; bytes 4t to 4t + 3 of 32 in registers 0 and 1, and those
16 further on in 2 and 3. That is the same for every number format, and for what is stored of a
2:4 row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autosparse.errors import CompileError
from autosparse.levels.bf16 import bf16_bits
from backends.cuda_kernels.tiles import BLOCK_ROWS, Element, Structure

Words = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float32] | npt.NDArray[np.int8]
Bits = npt.NDArray[Any]
"""uint8 or uint16."""

_ROWS, _PART_BYTES = 16, 32
_NONE: Words = np.empty((0, 32), np.uint32)
_MOST_DEPTH = 65_536
"""Features whose products of int8 and uint8 an int32 can always add up."""


def _stored(mask: int) -> list[int]:
    """Which two of four weights are stored: those whose bits are set, and the first others."""
    return sorted(sorted(range(4), key=lambda at: not mask >> at & 1)[:2])


_PAIRS = np.array([_stored(mask) for mask in range(16)])
_CROWDED = np.array([mask.bit_count() > 2 for mask in range(16)])


@dataclass(frozen=True)
class PackedWeight:
    """A weight matrix (outputs, depth), packed."""

    element: Element
    structure: Structure
    outputs: int
    depth: int
    steps: int
    """Of the depth, whether stored or not."""
    values: Words
    """(fragments, parts, 32 lanes, 4 registers)."""
    metadata: Words
    """2:4: (words, 32 lanes), a word for every step of int8, for two of 16 bits. Else empty."""
    block_rows: int = 0
    """Outputs in a block."""
    starts: Integers | None = None
    """Blocks: (rows of blocks + 1), where in `kept` the steps of each row of blocks begin."""
    kept: Integers | None = None
    """Blocks: the steps whose fragments are stored."""
    sums: Integers | None = None
    """int8: (outputs), of all weights of an output; what a zero point is multiplied with."""

    @property
    def stored_bytes(self) -> int:
        """What a multiplication reads of the weight."""
        lists = [part for part in (self.starts, self.kept) if part is not None]
        return sum(part.nbytes for part in (self.values, self.metadata, *lists))


def pack_dense(matrix: Matrix, element: Element) -> PackedWeight:
    """Pack every weight.

    Args:
        matrix: (outputs, depth), float32, or int8 for `Element.INT8`.
        element: what it is rounded to.

    Raises:
        CompileError: the matrix does not fit the number format.
    """
    bits = _padded(_bits(matrix, element), element.step)
    values = _lanes(bits).reshape(-1, 2, 32, 4)
    return PackedWeight(
        element, Structure.DENSE, matrix.shape[0], matrix.shape[1],
        steps=bits.shape[1] // element.step,
        values=values, metadata=_NONE, sums=_sums(matrix, element),
    )  # fmt: skip


def pack_two_of_four(matrix: Matrix, element: Element) -> PackedWeight:
    """Pack the non-zeros of a 2:4 matrix, with a zero where a group has fewer than two.

    Args:
        matrix: (outputs, depth), float32, or int8 for `Element.INT8`; of every four consecutive
            weights of an output, at most two are not zero.
        element: what it is rounded to.

    Raises:
        CompileError: a group has more, or the matrix does not fit the number format.
    """
    paired = element is not Element.INT8
    # an even number of steps, since two of 16 bits share their metadata
    bits = _padded(_bits(matrix, element), element.step * (2 if paired else 1))
    groups = bits.reshape(len(bits), -1, 4)
    masks = np.packbits(_is_there(groups, element), axis=2, bitorder="little")[:, :, 0]
    crowded = np.argwhere(_CROWDED[masks])
    if len(crowded):
        output, group = crowded[0]
        raise CompileError(
            f"output {output} has more than 2 non-zeros in weights {4 * group} to {4 * group + 3}",
            hint="2:4 means at most two non-zeros in every four weights along the depth",
        )
    pairs = _PAIRS[masks]
    kept = np.take_along_axis(groups, pairs, axis=2).reshape(len(bits), -1)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 2).astype(np.uint32)
    metadata = _metadata_of_16_bits(nibbles) if paired else _metadata_of_8_bits(nibbles)
    return PackedWeight(
        element, Structure.TWO_OF_FOUR, matrix.shape[0], matrix.shape[1],
        steps=bits.shape[1] // element.step,
        values=_lanes(kept).reshape(-1, 1, 32, 4), metadata=metadata,
        sums=_sums(matrix, element),
    )  # fmt: skip


def pack_blocks(matrix: Matrix, element: Element, block_rows: int) -> PackedWeight:
    """Pack the blocks that hold a non-zero: `block_rows` outputs by one step of the depth.

    Args:
        matrix: (outputs, depth), float32, or int8 for `Element.INT8`.
        element: what it is rounded to.
        block_rows: outputs in a block, of `BLOCK_ROWS`.

    Raises:
        CompileError: no kernel has such blocks, or the matrix does not fit the number format.
    """
    if block_rows not in BLOCK_ROWS:
        raise CompileError(
            f"there are no kernels for blocks of {block_rows} outputs",
            hint=f"take blocks of {' or '.join(map(str, BLOCK_ROWS))}",
        )
    bits = _padded(_bits(matrix, element), element.step, block_rows)
    steps = bits.shape[1] // element.step
    blocks = bits.reshape(-1, block_rows, steps, element.step)
    there = np.asarray(_is_there(blocks, element).any(axis=(1, 3)))
    fragments = _lanes(bits).reshape(len(there), block_rows // _ROWS, steps, 2, 32, 4)
    values = [fragments[row][:, there[row]].reshape(-1, 2, 32, 4) for row in range(len(there))]
    return PackedWeight(
        element, Structure.BLOCKS, matrix.shape[0], matrix.shape[1],
        steps=steps, values=np.concatenate(values),
        metadata=_NONE, sums=_sums(matrix, element), block_rows=block_rows,
        kept=np.nonzero(there)[1].astype(np.int32),
        starts=np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int32),
    )  # fmt: skip


def _sums(matrix: Matrix, element: Element) -> Integers | None:
    if element is not Element.INT8:
        return None
    sums: Integers = matrix.sum(axis=1, dtype=np.int64).astype(np.int32)
    return sums


def _bits(matrix: Matrix, element: Element) -> Bits:
    """The matrix as the tensor cores read it, in integers of its size."""
    wanted = np.int8 if element is Element.INT8 else np.float32
    if matrix.ndim != 2 or not matrix.size or matrix.dtype != wanted:
        raise CompileError(
            f"{element.value} weights are packed from a matrix of {np.dtype(wanted)}, "
            f"not from {matrix.dtype} of shape {matrix.shape}"
        )
    if element is Element.INT8:
        if matrix.shape[1] > _MOST_DEPTH:
            raise CompileError(
                f"int8 sums over {matrix.shape[1]} features may not fit into an int32",
                hint=f"at most {_MOST_DEPTH} features; keep this layer in fp16",
            )
        return matrix.view(np.uint8)
    if element is Element.FP16:
        with np.errstate(over="ignore"):  # it is checked
            half = matrix.astype(np.float16)
        if np.any(np.isinf(half) & np.isfinite(matrix)):
            raise CompileError(
                f"a weight of {np.abs(matrix).max():.3g} is beyond fp16's range",
                hint="bf16 has the range of fp32",
            )
        return half.view(np.uint16)
    return bf16_bits(matrix.astype(np.float32))


def _is_there(bits: Bits, element: Element) -> npt.NDArray[np.bool_]:
    """Which weights are not zero: minus zero is one."""
    there: npt.NDArray[np.bool_] = (bits if element is Element.INT8 else bits & 0x7FFF) != 0
    return there


def _padded(bits: Bits, columns: int, rows: int = _ROWS) -> Bits:
    """With zeros, to multiples of both."""
    more = [(0, -bits.shape[0] % rows), (0, -bits.shape[1] % columns)]
    return np.pad(bits, more)


def _lanes(bits: Bits) -> Words:
    """(rows, columns) of stored weights -> (rows / 16, parts along a row, 32 lanes, 4)."""
    octets = np.ascontiguousarray(bits).view(np.uint8)
    half, group, side, member = 2, 8, 2, 4
    parts = octets.reshape(-1, half, group, octets.shape[1] // _PART_BYTES, side, member, 4)
    ordered = np.ascontiguousarray(parts.transpose(0, 3, 2, 5, 4, 1, 6))
    return ordered.view(np.uint32).reshape(len(octets) // _ROWS, -1, 32, 4)


def _metadata_of_16_bits(nibbles: Words) -> Words:
    """Of m16n8k32: lanes 4g and 4g + 1 have 16 features each, of output g in the lower half.

    That is the first of two steps (selector 0). Lanes 4g + 2 and 4g + 3 have the second.

    Args:
        nibbles: (rows, groups of four); two indices of two bits, the lower one first.
    """
    quarters = _joined(nibbles, 4).astype(np.uint16)
    half, group, step, sixteen = 2, 8, 2, 2
    parts = quarters.reshape(len(nibbles) // _ROWS, half, group, -1, step, sixteen)
    ordered = np.ascontiguousarray(parts.transpose(0, 3, 2, 4, 5, 1))
    return ordered.view(np.uint32).reshape(-1, 32)


def _metadata_of_8_bits(nibbles: Words) -> Words:
    """Of m16n8k64: lanes 4g and 4g + 1 have outputs g and g + 8, the first 32 features of each.

    Lanes 4g + 2 and 4g + 3 have the other 32.
    """
    halves = _joined(nibbles, 8)
    half, group, thirty_two = 2, 8, 2
    parts = halves.reshape(len(nibbles) // _ROWS, half, group, -1, thirty_two)
    return np.ascontiguousarray(parts.transpose(0, 3, 2, 4, 1)).reshape(-1, 32)


def _joined(nibbles: Words, count: int) -> Words:
    """So many of a row in one number, the first one lowest."""
    parts = nibbles.reshape(len(nibbles), -1, count)
    shifts = 4 * np.arange(count, dtype=np.uint32)
    joined: Words = np.bitwise_or.reduce(parts << shifts, axis=2)
    return joined
