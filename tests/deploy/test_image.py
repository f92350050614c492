"""The image has every part of the product, at the versions that everything is tested with."""

from __future__ import annotations

import fnmatch
import re

import pytest

from tests.deploy.started import DEPLOY, PROJECT, ROOT, VERSION, is_pinned, parsed

TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", "", TEXT).splitlines()


def said(instruction: str) -> list[str]:
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{instruction} ")]


def test_it_has_every_package() -> None:
    copied = {source for line in said("COPY") for source in line.split()[:-1]}
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied
    for source in copied:
        assert (ROOT / source).exists(), source


def test_nothing_that_is_copied_is_ignored() -> None:
    """And what is not copied is not even sent."""
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for line in said("COPY") for source in line.split()[:-1]}
    assert kept == copied
    assert "*" in rules
    assert not any(fnmatch.fnmatch(".git", name) for name in kept)


def test_extras_exist_and_versions_are_held() -> None:
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', TEXT)
    assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    assert {"service", "postgresql"} <= set(extras.split(","))
    for line in said("RUN"):
        if "pip install" in line:
            assert re.search(r"--constraint (/src/)?constraints\.txt", line), line


def test_it_is_built_on_a_certain_release() -> None:
    first, second = said("FROM")
    image, _, stage = first.partition(" AS ")
    assert is_pinned(image)
    assert second == f"{stage} AS ray"


def test_it_runs_as_nobody_special_and_starts_a_server() -> None:
    users = said("USER")
    assert users[0] == users[-1] == "10001:10001", "whatever stage is the last one"
    (first, _) = said("CMD")
    assert parsed(re.findall(r'"([^"]+)"', first)).no_runner is False
    assert said("EXPOSE") == ["8377"]


@pytest.mark.parametrize("tag", [f"autosparse:{VERSION}", f"autosparse-ray:{VERSION}"])
def test_the_guide_builds_what_is_started(tag: str) -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert f"--tag {tag} " in TEXT
    assert f"--tag {tag} " in guide
