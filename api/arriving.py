"""What is on its way to a server: it counts for its key before it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autosparse.errors import QuotaError


class Arriving:
    """Bytes of uploads that have arrived and are not stored yet, by key."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def counted(self, owner: str, room: int) -> Iterator[Callable[[int], None]]:
        """Count one upload while it arrives; all of them run in the thread of the server's loop.

        Args:
            owner: id of its key.
            room: what the key may store beside what it stores.

        Yields:
            What is told the size of every piece, and raises `QuotaError` where all that is on
            its way is more than there is room for.
        """
        mine = 0

        def arrived(size: int) -> None:
            nonlocal mine
            mine += size
            self._bytes[owner] += size
            if self._bytes[owner] > room:
                raise QuotaError(
                    f"the key may store {room} bytes more, and more are on their way",
                    hint="send one after the other, or delete what no job needs any more",
                )

        try:
            yield arrived
        finally:
            self._bytes[owner] -= mine
            if not self._bytes[owner]:
                del self._bytes[owner]
