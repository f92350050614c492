"""`deploy/docker-compose.yml` says what the product understands, and is whole in itself."""

from __future__ import annotations

import argparse
import re
import socket
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from sqlalchemy import make_url

from api.artifact_store import artifact_store
from autosparse.errors import ConfigError
from tests.api.live_service import LiveService, listening
from tests.deploy.started import (
    DEPLOY,
    OURS,
    checks_health,
    is_pinned,
    served,
    unknown_variables,
)

FILE = DEPLOY / "docker-compose.yml"
SECRETS = {"POSTGRES_PASSWORD": "one", "S3_SECRET_KEY": "two"}
_VARIABLE = re.compile(r"\$\{(\w+):([?-])([^}]*)\}")
SERVERS = ("api", "runner")


def filled(text: str, given: dict[str, str]) -> str:
    """Text with what the environment says in place of `${NAME:?MESSAGE}` and `${NAME:-DEFAULT}`."""

    def value(found: re.Match[str]) -> str:
        name, how, other = found.groups()
        if name in given:
            return given[name]
        assert how == "-", f"{name} must be given: {other}"
        return other

    return _VARIABLE.sub(value, text)


@cache
def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(filled(FILE.read_text(encoding="utf-8"), SECRETS))
    return read


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = document()["services"][name]
    return found


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_as_it_is_asked(name: str) -> None:
    asked = service(name)
    assert asked["image"] in OURS
    settings = served(asked["command"], asked["environment"])
    assert settings.keys
    assert settings.is_loopback == (name == "runner"), "only the API is reached"
    assert make_url(settings.database).password == SECRETS["POSTGRES_PASSWORD"]
    (home,) = asked["volumes"]
    volume, _, place = home.partition(":")
    assert volume in document()["volumes"]
    assert settings.home.is_relative_to(place)
    assert unknown_variables(asked["environment"]) == set()


def test_one_runs_jobs_and_the_other_does_not() -> None:
    assert "--no-runner" in service("api")["command"]
    assert "--no-runner" not in service("runner")["command"]
    assert "ports" not in service("runner")
    (published,) = service("api")["ports"]
    settings = served(service("api")["command"], service("api")["environment"])
    assert published == f"127.0.0.1:{settings.port}:{settings.port}"


def test_what_a_server_speaks_to_is_there() -> None:
    asked = service("api")["environment"]
    settings = served(service("api")["command"], asked)
    database, objects = make_url(settings.database), urlsplit(asked["AWS_ENDPOINT_URL"])
    stored = service("postgres")["environment"]
    assert service(str(database.host))["image"].startswith("postgres:")
    assert (database.username, database.database) == (
        stored["POSTGRES_USER"], stored["POSTGRES_DB"],
    )  # fmt: skip
    store = service(str(objects.hostname))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert store["environment"][name] == asked[name]
    assert urlsplit(settings.artifacts).hostname == store["environment"]["S3_BUCKET"]
    assert f":{objects.port}/healthz" in " ".join(store["healthcheck"]["test"])


@pytest.mark.slow
def test_the_store_can_be_named() -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    asked = service("api")
    assert artifact_store(served(asked["command"], asked["environment"]).artifacts) is not None


@pytest.mark.parametrize("name", SERVERS)
def test_the_probe_sees_whether_the_server_answers(live: LiveService, name: str) -> None:
    how, *program, code = service(name)["healthcheck"]["test"]
    assert (how, program) == ("CMD", ["python", "-c"])
    settings = served(service(name)["command"], service(name)["environment"])
    assert f":{settings.port}/" in code
    with listening(live.service) as address:
        port = urlsplit(address).port
        assert port is not None
        checks_health(code, port)
        with pytest.raises(OSError, match="404"):
            checks_health(code.replace("/healthz", "/health"), port)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            checks_health(code, closed.getsockname()[1])


def test_everything_that_is_waited_for_can_be_seen() -> None:
    for asked in document()["services"].values():
        for other, how in asked.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in service(other)


def test_volumes_are_used_and_declared() -> None:
    used = {
        volume.partition(":")[0]
        for asked in document()["services"].values()
        for volume in asked["volumes"]
    }
    assert used == document()["volumes"].keys()


def test_images_are_certain_releases() -> None:
    for asked in document()["services"].values():
        assert asked["image"] in OURS or is_pinned(asked["image"]), asked["image"]
    assert not is_pinned("postgres:latest")
    assert not is_pinned("postgres:17")
    assert not is_pinned("postgres")
    assert not is_pinned("registry.example.com/postgres:17.1")


def test_ours_runs_as_nobody_special() -> None:
    built = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for name in SERVERS:
        asked = service(name)
        assert f"USER {asked['user']}" in built
        assert asked["cap_drop"] == ["ALL"]
        assert asked["build"]["target"] == "service"
        context = (DEPLOY / asked["build"]["context"]).resolve()
        assert context / asked["build"]["dockerfile"] == (DEPLOY / "Dockerfile").resolve()


def test_no_password_is_written_down() -> None:
    plain = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    for asked in plain["services"].values():
        for name, value in asked["environment"].items():
            if re.search("PASSWORD|SECRET|DATABASE$", name):
                assert ":?" in value, f"{name} has a value of its own"
    with pytest.raises(AssertionError, match="POSTGRES_PASSWORD must be given"):
        filled(FILE.read_text(encoding="utf-8"), {})


def test_these_checks_see_what_is_wrong() -> None:
    good = service("api")
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        served([*good["command"][:-2], "--prt", "1"], good["environment"])
    with pytest.raises(ConfigError, match="sets nothing"):
        served(good["command"], {"AUTOSPARSE_SERVE_DATABSE": "x"})
    assert unknown_variables({"AWS_ENDPOINT": "x"}) == {"AWS_ENDPOINT"}
