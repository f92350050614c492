"""What a container of ours would start, looked at with the product's own parser and settings."""

from __future__ import annotations

import argparse
import importlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api.settings import VARIABLE_PREFIX, ServerSettings
from autosparse.cli import serve
from autosparse.cli.main import COMMANDS
from autosparse.client.client import KEY_VARIABLE, URL_VARIABLE
from tests.api.s3_store import VARIABLES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION: str = PROJECT["project"]["version"]
OURS = {f"autosparse:{VERSION}", f"autosparse-ray:{VERSION}"}
_PINNED = re.compile(r"[a-z0-9]+(/[a-z0-9]+)?(-[a-z0-9]+)*:\d+\.\d+[\w.-]*")


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command of ours.

    Raises:
        argparse.ArgumentError: a value that is none.
        SystemExit: a flag that is none.
    """
    program, command, *rest = argv
    assert program == "autosparse"
    parser = argparse.ArgumentParser(prog=command, exit_on_error=False)
    importlib.import_module(COMMANDS[command].module).add_arguments(parser)
    return parser.parse_args(rest)


def served(argv: Sequence[str], environment: Mapping[str, str]) -> ServerSettings:
    """How a server would be set up.

    Raises:
        ConfigError: a variable that sets nothing, or a value that is none.
    """
    assert argv[1] == "serve"
    return serve.given_settings(parsed(argv), environment)


def unknown_variables(environment: Mapping[str, str], *others: str) -> set[str]:
    """Variables that nobody in a container of ours reads; wrong settings raise elsewhere."""
    known = {*VARIABLES, URL_VARIABLE, KEY_VARIABLE, *others}
    return {
        name
        for name in environment
        if name not in known and not name.startswith((VARIABLE_PREFIX, "MLFLOW_"))
    }


def is_pinned(image: str) -> bool:
    """Whether an image of somebody else's is one certain release."""
    return _PINNED.fullmatch(image) is not None


def checks_health(code: str, port: int) -> None:
    """Run a probe's program against another port than its own.

    Raises:
        OSError: as it would end where nobody answers.
    """
    assert code.count("8377") == 1
    exec(compile(code.replace("8377", str(port)), "probe", "exec"), {})
