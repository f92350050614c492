"""What a child process gives up before it touches something that somebody uploaded (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_libc = ctypes.CDLL(None, use_errno=True)

# What filters of system calls are made of: linux/audit.h, linux/filter.h, linux/seccomp.h.
_MACHINES = {
    # its number for filters, and those of its calls `socket` and `seccomp`
    "x86_64": (0xC000003E, 41, 317), "aarch64": (0xC00000B7, 198, 277),
}  # fmt: skip
_IO_URING_SETUP = 425  # it opens sockets, too; the same number on every machine
_FIRST_OF_X32 = 0x40000000  # the same calls once more, under other numbers
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_OF_CALL, _MACHINE_OF_CALL, _FIRST_ARGUMENT = 0, 4, 16
_ALLOWED, _REFUSED = 0x7FFF0000, 0x00050000 | errno.EACCES
_SET_FILTER, _IN_EVERY_THREAD = 1, 1
# What Ray speaks by, on a loopback of its own: also to the system, of which addresses there are.
_OF_RAY = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_SET_FLAGS_OF_INTERFACE, _IS_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16), ("if_so", ctypes.c_uint8), ("if_not", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )  # fmt: skip


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("first", ctypes.POINTER(_Instruction)))


def limit_resources(*, memory_bytes: int, file_bytes: int, cpu_seconds: int | None = None) -> None:
    """Take hard limits: memory beyond what is taken now, the size of a file, processor time."""
    taken = _data_bytes()
    _limit(resource.RLIMIT_DATA, taken + memory_bytes)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    if cpu_seconds is not None:
        _limit(resource.RLIMIT_CPU, cpu_seconds)
    # a file beyond the limit is an error of the write, not a signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def leave_network() -> bool:
    """Give up connections, in two ways of which each is enough against the network.

    A container without privileges may not have a network of its own, and refusing sockets needs
    none; it keeps from the sockets of this machine's own files, too, such as a database's. Pairs
    of sockets and pipes to processes of one's own stay.

    Returns:
        False where the system allows neither: then the process can open connections.
    """
    alone = _leave_for_an_empty_one()
    return _refuse_sockets() or alone


def keep_loopback() -> bool:
    """Give up every connection but those on a loopback of one's own, which Ray works on.

    Sockets of files stay, since Ray has some: whoever is taken over reaches those of this machine
    that the user may open.

    Returns:
        False where the system does not give a process a network of its own: nothing has changed.
    """
    if not _leave_for_an_empty_one():
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh22x", b"lo", _IS_UP)
        fcntl.ioctl(any_socket, _SET_FLAGS_OF_INTERFACE, asked)
    _refuse_sockets(but=_OF_RAY)
    return True


def keep_to_a_cluster() -> None:
    """Give up sockets that a Ray cluster is not reached by: the network itself stays."""
    _refuse_sockets(but=_OF_RAY)


def _leave_for_an_empty_one() -> bool:
    """Move to an empty network of one's own."""
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWNET) != 0:
        if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return False
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _refuse_sockets(but: Sequence[int] = ()) -> bool:
    """Let the system refuse to make sockets, to every thread and to whatever is started.

    Args:
        but: families of sockets that may be made.

    Returns:
        Whether it does.
    """
    known = _MACHINES.get(platform.machine())
    if known is None or sys.maxsize < 1 << 32:
        return False
    machine, call, seccomp = known
    steps = _steps(machine, call, but)
    written = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    asked = ctypes.byref(_Filter(len(steps), written))
    # the system's condition: else a program with more rights could be misled by refusals
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done: int = _libc.syscall(seccomp, _SET_FILTER, _IN_EVERY_THREAD, asked)
    return done == 0


def _steps(machine: int, call: int, but: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """The filter: (what, lines to jump over if so, lines to jump over if not, value)."""
    refuse = 7 + len(but)  # the last line but one; the last one allows
    allow = refuse + 1
    return [
        (_LOAD, 0, 0, _MACHINE_OF_CALL),
        (_IF_EQUAL, 0, refuse - 2, machine),
        (_LOAD, 0, 0, _NUMBER_OF_CALL),
        (_IF_AT_LEAST, refuse - 4, 0, _FIRST_OF_X32),
        (_IF_EQUAL, refuse - 5, 0, _IO_URING_SETUP),
        (_IF_EQUAL, 0, allow - 6, call),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *((_IF_EQUAL, allow - 8 - line, 0, family) for line, family in enumerate(but)),
        (_RETURN, 0, 0, _REFUSED),
        (_RETURN, 0, 0, _ALLOWED),
    ]


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (allowed, allowed))


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
