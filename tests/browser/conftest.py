"""Chromium, where it and Playwright are installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.api.live_service import LiveService, listening, live_service

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Tab:
    """A page of the dashboard, and whatever its browser complained about."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str, key: str) -> None:
        """Open the dashboard and give it a key."""
        self.page.goto(url)
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.get_by_role("button", name="Use this key").click()
        self.page.get_by_role("heading", name="Jobs").wait_for()

    def listen(self) -> None:
        """Keep errors of scripts, and what the policy of the page forbade."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def places(self) -> list[str]:
        """Every page that the navigation leads to, as the part of the address behind the host."""
        links = self.page.get_by_role("navigation").locator("a")
        found: list[str] = links.evaluate_all("all => all.map((a) => a.getAttribute('href'))")
        return found

    def _heard(self, message: Any) -> None:
        # an answer that is no success is shown on the page, and is no fault of the page's
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


# its event loop runs in this thread: no test of another module may find it there
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        # a container's root may not make the namespaces of Chromium's own sandbox
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    """A tab of its own, in which nothing may go wrong unseen."""
    context = browser.new_context(accept_downloads=True)
    made = Tab(context.new_page())
    made.page.set_default_timeout(60_000)
    made.listen()
    yield made
    context.close()
    assert made.complaints == []


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveService]:
    """A fresh service with one key."""
    with live_service(tmp_path / "home") as made:
        yield made


@pytest.fixture
def url(live: LiveService) -> Iterator[str]:
    """Where it listens."""
    with listening(live.service) as address:
        yield address
