"""Peak memory of an act of this process: by how much it raises the resident memory at most.

Read from Linux's own accounts. The highest mark (`VmHWM`) is set back before the act, and memory
that was freed is returned first, so that what the act takes is not served from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from autosparse.heap import return_freed_memory

T = TypeVar("T")

_STATUS, _MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_SET_BACK_THE_HIGHEST_MARK = "5"
_LINE = re.compile(r"^(Vm\w+):\s+(\d+) kB$", re.MULTILINE)


def peak_growth(act: Callable[[], T]) -> tuple[T, int | None]:
    """Do something, and tell how many bytes of memory it took at its peak.

    Returns:
        What it gave, and by how much the process's resident memory was larger at its highest than
        before; None where the system does not keep such accounts.
    """
    return_freed_memory()
    before = _set_back()
    given = act()
    return given, None if before is None else max(_kilobytes()["VmHWM"] - before, 0) * 1024


def _set_back() -> int | None:
    """Set the highest mark back to what is resident now, in kB; None where that is not possible."""
    try:
        _MARKS.write_text(_SET_BACK_THE_HIGHEST_MARK, encoding="ascii")
        found = _kilobytes()
    except OSError:
        return None
    return found["VmRSS"] if found.keys() >= {"VmRSS", "VmHWM"} else None


def _kilobytes() -> dict[str, int]:
    status = _STATUS.read_text(encoding="ascii", errors="replace")
    return {name: int(count) for name, count in _LINE.findall(status)}
