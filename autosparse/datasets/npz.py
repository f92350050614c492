"""Arrays of an npz file; large ones that are stored as they are stay in it, and are mapped.

A mapped array takes memory only while it is looked at, and the system forgets it when it needs the
room. What numpy.savez_compressed wrote has to be unpacked into memory.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

MAPPED_FROM_BYTES = 64 << 20
"""Members of this size on are mapped: smaller ones have room, and are then nobody else's."""
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_CHECKED_AT_ONCE = 64 << 20


def mapped_members(path: Path) -> dict[str, Array]:
    """The large members of an npz file that can be mapped: name -> array, read-only.

    Raises:
        BadZipFile: a member is damaged.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        large = [
            info
            for info in archive.infolist()
            if info.compress_type == zipfile.ZIP_STORED
            and info.file_size >= MAPPED_FROM_BYTES
            and info.filename.endswith(".npy")
            and not info.flag_bits & 1  # encrypted
        ]
        if not large:
            return {}
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found = ((info.filename[:-4], _array(file, pages, info)) for info in large)
        return {name: array for name, array in found if array is not None}


def _array(file: BinaryIO, pages: mmap.mmap, info: zipfile.ZipInfo) -> Array | None:
    """One member; None where it is an array that cannot be mapped."""
    file.seek(info.header_offset)
    header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1]
    end = start + info.file_size
    if end > len(pages):
        raise zipfile.BadZipFile(f"{info.filename} is truncated")
    _check(pages, start, end, info)
    file.seek(start)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        return None
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if dtype.hasobject or by_column or file.tell() + size != end:
        return None
    return np.ndarray(shape, dtype, buffer=pages, offset=file.tell())


def _check(pages: mmap.mmap, start: int, end: int, info: zipfile.ZipInfo) -> None:
    """What unpacking would find: whether the bytes are those that were written."""
    found = 0
    with memoryview(pages) as view:
        for place in range(start, end, _CHECKED_AT_ONCE):
            found = zlib.crc32(view[place : min(place + _CHECKED_AT_ONCE, end)], found)
    if found != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged")
