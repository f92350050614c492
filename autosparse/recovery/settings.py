"""Settings of a recovery, as a user gives them: `gradual:ramp_end=0.7,every=4`.

They are the fields of the configuration that the recovery's class takes as `config`.
"""

from __future__ import annotations

import typing
from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from autosparse.errors import ConfigError, first_problem
from autosparse.recovery.recovery import Recovery
from autosparse.registry import Registry


def settings_of(recovery: Recovery) -> type[BaseModel] | None:
    """What a recovery's class takes as its configuration; None where it takes nothing."""
    hints = typing.get_type_hints(type(recovery).__init__)
    for kind in typing.get_args(hints.get("config")):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def with_settings(recovery: Recovery, text: str) -> Recovery:
    """Another one of the same class, with other settings.

    Args:
        recovery: as it is registered.
        text: `field=value`, several of them separated by commas.

    Returns:
        Its name tells the settings that were given, by which trainings are told apart.

    Raises:
        ConfigError: it has no such setting, or the value is not possible.
    """
    kind = settings_of(recovery)
    if kind is None:
        raise ConfigError(f"{recovery.name} has no settings", hint=f"write {recovery.name} alone")
    known = ", ".join(kind.model_fields)
    given = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(
                f"{recovery.name}: {part!r} sets nothing",
                hint=f"write {recovery.name}:SETTING=VALUE,...; known: {known}",
            )
        given[name.strip()] = value.strip()
    try:
        config = kind.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            f"{recovery.name}: {first_problem(error)}", hint=f"known: {known}"
        ) from error
    make: Callable[[BaseModel], Recovery] = type(recovery)
    made = make(config)
    told = (f"{name}={getattr(config, name)}" for name in kind.model_fields if name in given)
    made.name = f"{recovery.name}:{','.join(told)}"
    return made


class RecoveryRegistry(Registry[Recovery]):
    """Recoveries by name, or by name and settings."""

    def load(self, name: str) -> Recovery:
        """See `Registry.load`; what has settings of its own is a new one at every call."""
        plain, colon, text = name.partition(":")
        recovery = super().load(plain)
        return with_settings(recovery, text) if colon else recovery
