"""Workers of served jobs: asked for by whoever runs the server, in a network of the job's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from api import server
from api.runner import Runner
from api.settings import ServerSettings
from autosparse.errors import ConfigError
from tests.api.queue_world import CONFIG, QueueWorld
from tests.api.test_settings import settings

_TELLS = """
import json, os, pathlib, sys
told = [json.loads(sys.stdin.readline())["config"], dict(os.environ)]
pathlib.Path("partial").write_text(json.dumps(told))
os.replace("partial", "seen")
"""


def told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str = "search",
    config: dict[str, Any] = CONFIG,
    **asked: Any,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration and the environment that a job's process is given."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    world = QueueWorld(tmp_path / "home", **asked)
    job = world.job()
    world.change(job, kind=kind, config=config)
    command = (sys.executable, "-S", "-c", _TELLS)
    seen = world.files.job(job) / "seen"
    with world.running(Runner(world.settings, world.database, world.files, command)):
        world.until(seen.exists)
    world.database.close()
    given, environment = json.loads(seen.read_text())
    return given, environment


def test_without_workers_nobody_hears_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, environment = told(tmp_path, monkeypatch)
    assert config == CONFIG
    assert "secret" not in environment.values()


def test_workers_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray draws a token of its own there."""
    config, environment = told(tmp_path, monkeypatch, workers=3)
    assert config == {**CONFIG, "workers": 3, "ray_address": None}
    assert "secret" not in environment.values()


def test_workers_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever joins it needs its token."""
    asked: dict[str, Any] = {"workers": 3, "ray_address": "10.0.0.1:6379"}
    config, environment = told(tmp_path, monkeypatch, **asked)
    assert config == {**CONFIG, **asked}
    assert environment["RAY_AUTH_TOKEN"] == "secret"


def test_only_searches_have_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = told(tmp_path, monkeypatch, "reverify", workers=3)
    assert config == CONFIG


def test_another_budget_does_not_take_those_of_its_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"source": "there", "output_dir": "out"}
    config, _ = told(tmp_path, monkeypatch, "resolve", asked, workers=3)
    assert config == {**asked, "workers": 0}


def test_they_are_settings_of_the_server() -> None:
    read = settings(["--workers", "4"], {"AUTOSPARSE_SERVE_RAY_ADDRESS": "10.0.0.1:6379"})
    assert (read.workers, read.ray_address) == (4, "10.0.0.1:6379")
    with pytest.raises(ConfigError, match="there are none"):
        settings(["--ray-address", "10.0.0.1:6379"], {})


def test_a_system_that_cannot_hold_workers_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything listens: else every job would end with it."""
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(server, "_TRY_LOOPBACK", (sys.executable, "-c", "raise SystemExit(1)"))
    asked = ServerSettings(home=tmp_path / "home", port=0, workers=2)
    with pytest.raises(ConfigError, match="no network of its own"):
        server.serve(asked, ready=lambda *_: None)
    assert not (tmp_path / "home").exists()
