"""Settings from the command line and from the environment, and who sees what stands there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from api.runner import Runner
from api.settings import ServerSettings, settings_in
from autosparse.cli import serve
from autosparse.errors import ConfigError
from tests.api.queue_world import QueueWorld

URL = "postgresql+psycopg://me:secret@db/autosparse"
_TELLS_ITS_ENVIRONMENT = (
    "import json, os, pathlib; place = pathlib.Path('seen')\n"
    "place.exists() or place.write_text(json.dumps(dict(os.environ)))"
)


def settings(argv: list[str], environment: dict[str, str]) -> ServerSettings:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return serve.given_settings(parser.parse_args(argv), environment)


def test_without_anything_the_defaults_hold() -> None:
    assert settings([], {"HOME": "/", "AUTOSPARSE_SERVER": "http://there"}) == ServerSettings()


def test_every_setting_has_a_variable() -> None:
    given = {
        "AUTOSPARSE_SERVE_DATABASE": URL, "AUTOSPARSE_SERVE_PORT": "80",
        "AUTOSPARSE_SERVE_KEYS": "false", "AUTOSPARSE_SERVE_KEEP_DAYS": "1.5",
        "AUTOSPARSE_SERVE_WEBHOOK_NETWORKS": '["10.1.0.0/16"]',
        "AUTOSPARSE_SERVE_INTAKE": '{"cpu_seconds": 7}', "AUTOSPARSE_SERVE_ARTIFACTS": "",
    }  # fmt: skip
    read = settings([], given)
    assert (read.database, read.port, read.keys, read.keep_days) == (URL, 80, False, 1.5)
    assert [str(network) for network in read.webhook_networks] == ["10.1.0.0/16"]
    assert read.intake.cpu_seconds == 7
    assert read.artifacts == ""


@pytest.mark.parametrize("field", ServerSettings.model_fields)
def test_every_setting_is_in_the_guide(field: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"_{field.upper()}`" in guide


def test_the_command_line_comes_first() -> None:
    given = {"AUTOSPARSE_SERVE_PORT": "80", "AUTOSPARSE_SERVE_HOST": "10.0.0.1"}
    read = settings(["--port", "81"], given)
    assert (read.port, read.host) == (81, "10.0.0.1")
    assert not settings(["--no-keys"], {"AUTOSPARSE_SERVE_KEYS": "true"}).keys


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("AUTOSPARSE_SERVE_DATABSE", URL, "AUTOSPARSE_SERVE_DATABSE sets nothing"),
        ("AUTOSPARSE_SERVE_PORT", "tcp://10.0.0.1:80", "port"),
        ("AUTOSPARSE_SERVE_INTAKE", "seven", "no JSON"),
        ("AUTOSPARSE_SERVE_INTAKE", '{"seconds": 7}', "intake"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, told: str) -> None:
    """One that is misspelt would otherwise leave a default in its place."""
    with pytest.raises(ConfigError, match=told) as caught:
        settings([], {variable: value})
    assert "secret" not in str(caught.value)


def test_open_to_everybody_is_refused_from_there_too() -> None:
    with pytest.raises(ConfigError, match="everybody"):
        settings([], {"AUTOSPARSE_SERVE_KEYS": "no", "AUTOSPARSE_SERVE_HOST": "0.0.0.0"})
    assert settings_in({"AUTOSPARSE_SERVE_KEYS": "no"}) == {"keys": "no"}


def test_a_job_does_not_see_the_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AUTOSPARSE_SERVE_DATABASE", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD",
                     "MLFLOW_TRACKING_PASSWORD"):  # fmt: skip
        monkeypatch.setenv(variable, "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    world = QueueWorld(tmp_path / "home")
    job = world.job()
    command = (sys.executable, "-S", "-c", _TELLS_ITS_ENVIRONMENT)
    seen = world.files.job(job) / "seen"
    with world.running(Runner(world.settings, world.database, world.files, command)):
        world.until(lambda: seen.exists() and seen.read_text().endswith("}"))
    told = json.loads(seen.read_text())
    assert told["LD_LIBRARY_PATH"] == str(tmp_path)
    assert "secret" not in told.values()
    world.database.close()
