"""Registries: code is imported when it is asked for, and what is missing is told by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from autosparse.errors import AutoSparseError, ConfigError, NotInstalledError
from autosparse.registry import Registry


@runtime_checkable
class Greeter(Protocol):
    def greet(self) -> str:
        """A greeting."""


class Polite:
    def greet(self) -> str:
        return "good day"


class Silent:
    """Greets nobody."""


def registry(
    entries: dict[str, str], group: str = "autosparse.nobody", extra: str = ""
) -> Registry[Greeter]:
    return Registry("greeter", entries, Greeter, group, extra)


HERE = __name__


def third_party(where: Path, monkeypatch: pytest.MonkeyPatch, *entries: str) -> None:
    """A distribution as an installer would leave it: metadata beside its modules."""
    metadata = where / "their_greeter-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-greeter\nVersion: 1.0\n")
    lines = ("[autosparse.test_greeters]", *entries, "")
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(where)


def test_a_name_leads_to_an_instance_that_is_made_once() -> None:
    greeters = registry({"polite": f"{HERE}:Polite"})
    first = greeters.load("polite")
    assert first.greet() == "good day"
    assert greeters.load("polite") is first


def test_nothing_is_imported_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy_greeter.py").write_text("class Lazy:\n    greet = lambda self: 'hi'\n")
    monkeypatch.syspath_prepend(tmp_path)
    greeters = registry({"lazy": "lazy_greeter:Lazy"})
    assert greeters.names() == ("lazy",)
    assert "lazy_greeter" not in sys.modules
    assert greeters.load("lazy").greet() == "hi"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("polit", "known: polite"), ("POLITE", "known: polite, rude"), ("", "known: polite, rude")],
)
def test_an_unknown_name_lists_the_near_ones_or_all(asked: str, hint: str) -> None:
    greeters = registry({"polite": f"{HERE}:Polite", "rude": f"{HERE}:Polite"})
    with pytest.raises(ConfigError, match=f"no greeter is called '{asked}'") as caught:
        greeters.load(asked)
    assert caught.value.hint == hint


def test_a_missing_library_is_told_by_name() -> None:
    greeters = registry({"far": "no_such_library.greeters:Far"})
    with pytest.raises(NotInstalledError, match="greeter 'far' needs the package") as caught:
        greeters.load("far")
    assert caught.value.hint == "install the package that brings the module 'no_such_library'"


def test_what_one_of_ours_misses_is_in_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = "no_such_library.greeters:Far"
    third_party(tmp_path, monkeypatch, f"theirs = {far}")
    greeters = registry({"far": far}, "autosparse.test_greeters", "greetings")
    with pytest.raises(NotInstalledError) as caught:
        greeters.load("far")
    assert caught.value.hint == "pip install 'autosparse[greetings]'"
    with pytest.raises(NotInstalledError) as caught:
        greeters.load("theirs")
    assert "brings the module 'no_such_library'" in caught.value.hint


def test_a_wrong_line_of_ours_is_no_missing_library() -> None:
    greeters = registry({"wrong": "autosparse.no_such_module:Thing"})
    with pytest.raises(ModuleNotFoundError):
        greeters.load("wrong")


def test_what_does_not_keep_the_contract_is_refused() -> None:
    greeters = registry({"silent": f"{HERE}:Silent"})
    with pytest.raises(AutoSparseError, match=f"{HERE}:Silent is no Greeter"):
        greeters.load("silent")


def test_what_the_contract_is_can_be_imported_with_the_first_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_contract.py").write_text("class Late:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    entries = {"late": "late_contract:Late", "silent": f"{HERE}:Silent"}
    late: Registry[object] = Registry("thing", entries, "late_contract:Late", "autosparse.nobody")
    assert "late_contract" not in sys.modules
    assert type(late.load("late")).__name__ == "Late"
    with pytest.raises(AutoSparseError, match=f"{HERE}:Silent is no Late"):
        late.load("silent")


def test_a_third_party_adds_its_own_and_cannot_replace_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_greeter.py").write_text("class Their:\n    greet = lambda self: 'moin'\n")
    lines = ("theirs = their_greeter:Their", "polite = their_greeter:Their")
    third_party(tmp_path, monkeypatch, *lines)
    greeters = registry({"polite": f"{HERE}:Polite"}, group="autosparse.test_greeters")
    assert greeters.names() == ("polite", "theirs")
    assert greeters.load("theirs").greet() == "moin"
    assert greeters.load("polite").greet() == "good day"
