"""Where jobs of one user leave each other what outlives a job: the XDG state directory."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory(name: str) -> Path | None:
    """A directory of that name for all jobs of this user; None for a user without a home."""
    root = os.environ.get("XDG_STATE_HOME")
    try:
        base = Path(root) if root else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return base / "autosparse" / name
