"""What is shown of a job is made once for all who look at it, and anew when it has changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from api import layer_levels
from api.recent_texts import RecentTexts
from autosparse.errors import NotFoundError
from autosparse.levels.table import read_cells
from tests.api.live_service import LiveService
from tests.api.seeded import add_cells, add_job, begin, trial

LEVELS = {"conv": "dense:int8"}


class Maker:
    """Makes a text, and counts how often."""

    def __init__(self, size: int = 10) -> None:
        self.made = 0
        self._size = size

    def __call__(self) -> str:
        self.made += 1
        return "x" * self._size


def test_a_text_is_made_again_when_its_version_is_another() -> None:
    texts, maker = RecentTexts(), Maker()
    assert [texts.get("a", version, maker) for version in (1, 1, 2, 2, 1)] == [b"x" * 10] * 5
    assert maker.made == 3
    texts.get("b", 1, maker)
    assert maker.made == 4


def test_only_so_much_is_remembered() -> None:
    """Those that were asked for last; one that has no room at all is made each time."""
    texts, maker = RecentTexts(most_bytes=25), Maker()
    for name in ("a", "b", "a", "c"):
        texts.get(name, 1, maker)
    assert maker.made == 3
    texts.get("a", 1, maker)
    assert maker.made == 3
    texts.get("b", 1, maker)
    assert maker.made == 4
    large = Maker(1000)
    assert len(texts.get("large", 1, large)) == 1000
    texts.get("a", 1, maker)
    texts.get("large", 1, large)
    assert (maker.made, large.made) == (5, 2)


def test_what_cannot_be_made_is_tried_again() -> None:
    texts, maker = RecentTexts(), Maker()

    def refuse() -> str:
        raise NotFoundError("there is no trial yet")

    with pytest.raises(NotFoundError):
        texts.get("a", 1, refuse)
    assert texts.get("a", 1, maker) == b"x" * 10


def test_many_who_ask_at_once_have_it_made_once() -> None:
    texts, maker, may_go_on = RecentTexts(), Maker(), threading.Event()

    def slowly() -> str:
        assert may_go_on.wait(60.0)
        return maker()

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(texts.get, "a", 1, slowly) for _ in range(8)]
        may_go_on.set()
        assert {one.result() for one in asked} == {b"x" * 10}
    assert maker.made == 1


@pytest.mark.parametrize("plot", ["front", "anytime"])
def test_tabs_that_ask_for_a_plot_read_the_trials_once(
    shared_live: LiveService, monkeypatch: pytest.MonkeyPatch, plot: str
) -> None:
    monkeypatch.setattr("api.live_anytime._AGAIN_SECONDS", 1e12)
    job = add_job(shared_live, "watched", created=1.0)
    lease = begin(shared_live, job)
    looks: list[str] = []

    def count(*given: Any) -> None:
        looks.append(given[2])

    event.listen(shared_live.service.database.engine, "before_cursor_execute", count)
    shown = []
    for number in (1, 2):
        lease.trial(trial(number, 0.9 - number / 10, 0.01, LEVELS), f"recipe{number}")
        for _ in range(3):
            looks.clear()
            shown.append(shared_live.http.get(f"/v1/jobs/{job}/{plot}").text)
        assert not any("FROM trials" in look or "FROM events" in look for look in looks)
    event.remove(shared_live.service.database.engine, "before_cursor_execute", count)
    assert shown[0] == shown[1] == shown[2] != shown[3] == shown[4] == shown[5]
    other = shared_live.new_key()
    assert shared_live.http.get(f"/v1/jobs/{job}/{plot}", headers=other).status_code == 404


def test_tabs_that_ask_for_the_layers_read_the_table_once(
    shared_live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, read = add_job(shared_live, "watched"), [0]

    def counted(*given: Any) -> Any:
        read[0] += 1
        return read_cells(*given)

    monkeypatch.setattr(layer_levels, "read_cells", counted)
    for done, layer in enumerate(("conv", "fc"), start=1):
        add_cells(shared_live, job, "here", {layer: {"dense:fp32": 1e-5}})
        for _ in range(3):
            items = shared_live.http.get(f"/v1/jobs/{job}/layers").json()["items"]
        assert (len(items), read[0]) == (done, done)
