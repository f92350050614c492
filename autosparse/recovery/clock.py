"""What ends a training from outside: the time since it began, or somebody who wants the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Clock:
    """Of one training."""

    began: float = field(default_factory=time.monotonic)
    """When it did, by `time.monotonic`."""
    stop: Callable[[], bool] | None = None
    """Whether it is to end now, with the best that it has come to; None for never."""

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def is_asked_to_end(self) -> bool:
        """Whether it is to end now."""
        return self.stop is not None and self.stop()
