"""The key that a driver and an agent share: in a file of one's own, or in the environment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from autosparse.errors import ConfigError

KEY_VARIABLE = "AUTOSPARSE_AGENT_KEY"
_LEAST_CHARACTERS = 32
_OTHERS = 0o077


def read_key(file: Path | None) -> bytes:
    """The key from a file, or else from the environment.

    Raises:
        ConfigError: there is none, it is short enough to be guessed, or others can read the file.
    """
    if file is None:
        text = os.environ.get(KEY_VARIABLE, "")
        if not text:
            raise ConfigError(
                "an agent is asked with a key, and there is none",
                hint=f"set {KEY_VARIABLE}, or name the key's file as key_file in the target file",
            )
        return _checked(text, f"the key in {KEY_VARIABLE}")
    try:
        if file.stat().st_mode & _OTHERS:
            raise ConfigError(f"other users can read the key file {file}", hint=f"chmod 600 {file}")
        return _checked(file.read_text(encoding="ascii"), f"the key in {file}")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds no text"
        raise ConfigError(
            f"cannot read the key file {file}: {reason}",
            hint="copy it from the device: `autosparse agent --key-file FILE` makes it there",
        ) from error


def drawn_key() -> bytes:
    """A key that nobody can guess."""
    return secrets.token_hex(32).encode()


def read_or_make_key(file: Path) -> tuple[bytes, bool]:
    """The key of a file, and whether it was made just now.

    Raises:
        ConfigError: as for `read_key`, or it cannot be written.
    """
    if file.exists():
        return read_key(file), False
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as made:
            made.write(drawn_key().decode() + "\n")
    except OSError as error:
        raise ConfigError(f"cannot make the key file {file}: {error.strerror}") from error
    return read_key(file), True


def _checked(text: str, what: str) -> bytes:
    key = text.strip()
    if len(key) < _LEAST_CHARACTERS:
        raise ConfigError(
            f"{what} has {len(key)} characters: it could be guessed",
            hint=f"{_LEAST_CHARACTERS} random ones are enough; `autosparse agent --key-file FILE` "
            "draws a key where there is no such file yet",
        )
    return key.encode()
