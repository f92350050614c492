"""Registries: a name leads to code that is imported when it is first used.

The core names no plug-in. A registry holds `"package.module:Attribute"` strings, so an optional
library that is missing is reported by name when it is asked for, and a third party adds its own
through the entry-point group of the registry, without a change here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from autosparse.errors import AutoSparseError, ConfigError, NotInstalledError

T = TypeVar("T")

_OWN_PACKAGES = ("autosparse", "backends", "workers", "search_spaces", "api")


class Registry(Generic[T]):
    """Names of one kind of plug-in.

    Args:
        kind: what one entry is, in the words users see ("method", "backend" ...).
        entries: name -> `"package.module:Attribute"`.
        expected: the class or runtime protocol that every loaded attribute must satisfy, or its
            `"package.module:Attribute"`, where importing it is not to be paid by every import of
            the registry.
        group: entry-point group where third parties add theirs.
        extra: extra of this distribution that brings what our own entries need beside the rest.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        expected: type[T] | str,
        group: str,
        extra: str = "",
    ) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._expected = expected
        self._group = group
        self._extra_of = dict.fromkeys(entries, extra)
        self._loaded: dict[str, T] = {}
        self._third_parties_read = False

    def names(self) -> tuple[str, ...]:
        """All registered names, ours first, each in its registered order."""
        if not self._third_parties_read:
            for point in entry_points(group=self._group):
                self._entries.setdefault(point.name, point.value)
            self._third_parties_read = True
        return tuple(self._entries)

    def load(self, name: str) -> T:
        """Return the plug-in called `name`, importing its module on first use.

        Raises:
            ConfigError: no such name; the message lists the near ones.
            NotInstalledError: the module needs a library that is not installed.
        """
        if name not in self._loaded:
            self._loaded[name] = self._import(name)
        return self._loaded[name]

    def _import(self, name: str) -> T:
        if name not in self.names():
            near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.4)
            known = ", ".join(near or self.names())
            raise ConfigError(f"no {self.kind} is called {name!r}", hint=f"known: {known}")
        try:
            made = _attribute(self._entries[name])
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in _OWN_PACKAGES:
                raise  # a wrong registry line is our bug, not a missing extra
            raise NotInstalledError(
                f"{self.kind} {name!r} needs the package {missing!r}, which is not installed",
                hint=self._how_to_install(name, missing),
            ) from error
        loaded = made()
        expected = self._expected
        kept: type[T] = _attribute(expected) if isinstance(expected, str) else expected
        if not isinstance(loaded, kept):
            raise AutoSparseError(
                f"{self.kind} {name!r}: {self._entries[name]} is no {kept.__name__}"
            )
        return loaded

    def _how_to_install(self, name: str, missing: str) -> str:
        """What brings a module: its name need not be that of a package."""
        extra = self._extra_of.get(name, "")
        if extra:
            return f"pip install 'autosparse[{extra}]'"
        return f"install the package that brings the module {missing!r}"


def _attribute(name: str) -> Any:
    """What `"package.module:Attribute"` names, imported."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
