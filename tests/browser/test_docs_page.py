"""The API's page in a real browser: all that there is, without a key, and on a phone, too."""

from __future__ import annotations

import pytest

from tests.api.live_service import LiveService
from tests.browser.conftest import Tab

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [360, 1280])
def test_every_request_is_told(live: LiveService, url: str, tab: Tab, width: int) -> None:
    page = tab.page
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{url}/docs")
    page.get_by_role("heading", name="The API").wait_for()
    paths = live.http.get("/openapi.json").json()["paths"]
    every = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert set(page.locator("details.request > summary > code").all_text_contents()) == every
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    submit = page.locator("details.request", has=page.get_by_text("POST /v1/jobs", exact=True))
    told = submit.text_content()
    assert "latency_budget (required)" in told
    assert "idempotency-key" in told.lower()
    assert '"latency_budget": "60%"' in told, "an example"
    assert "Answers 202" in told
    assert '"id": "job_' in told
    assert page.get_by_text("Its state does not allow it now.").count() == 1, "told once for all"
