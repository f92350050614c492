"""Every module of the product, found on disk and imported."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("autosparse", "search_spaces", "backends", "workers", "api")


def source_files() -> list[Path]:
    """Python files of the product."""
    return sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


@functools.cache
def modules() -> tuple[ModuleType, ...]:
    """Everything that can be imported here: a missing optional library leaves its module out."""
    found: list[ModuleType] = []
    for path in source_files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in PACKAGES:
                raise
    return tuple(found)
