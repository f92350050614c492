"""What is shown of a job is made once for all who look at it, as long as nothing of it changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

_MOST_BYTES = 16 << 20
_NOTHING = object()


@dataclass
class _Entry:
    version: Hashable = _NOTHING
    text: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)


class RecentTexts:
    """Remembers the texts that were asked for last.

    Args:
        most_bytes: of all of them together; the one that was asked for last stays, whatever it has.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, what: str, version: Hashable, make: Callable[[], str]) -> bytes:
        """A text, made anew only where what it is made of has changed.

        Whoever asks meanwhile waits for it, and makes none of their own.

        Args:
            what: name of the text.
            version: of what it is made of.
            make: what makes it; what that raises is raised, and nothing is remembered.
        """
        entry = self._entry(what)
        with entry.lock:
            if entry.version != version:
                entry.text, entry.version = make().encode(), version
            text = entry.text
        self._trim()
        return text

    def _entry(self, what: str) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(what, _Entry())
            self._entries.move_to_end(what)
            return entry

    def _trim(self) -> None:
        with self._lock:
            # of one that is being made, or could not be, the name alone counts
            left = self._most - sum(len(n) + len(e.text) for n, e in self._entries.items())
            while left < 0 and len(self._entries) > 1:
                name, entry = self._entries.popitem(last=False)
                left += len(name) + len(entry.text)
