"""The dashboard in a real browser: from a key to a fetched and verified bundle."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.job_ledger import JobLease, add_event, move
from api.tables import JobRow
from tests.api.live_service import LiveService
from tests.api.queue_world import record
from tests.api.seeded import add_job, add_schedule, add_upload
from tests.api.served import Served, until
from tests.browser.conftest import Tab
from tests.faults.real_job import RealJob

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)>" + "'\"&amp;" + "long" * 30
SECONDS = 1000.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    RealJob.make(tmp_path)
    made = Served(tmp_path)
    made.start()
    yield made
    made.kill()
    until(made.nothing_runs)


def submit(tab: Tab, directory: Path) -> None:
    """Fill the form in as a person does."""
    page = tab.page
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Name").fill("through the dashboard")
    for field in ("Model", "Calibration", "Validation"):
        page.get_by_label(field).first.set_input_files(directory / _file(field))
    page.get_by_label("Latency budget").fill("1000%")
    page.get_by_label("Max drop").fill("100pt")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Space").select_option("int8")
    page.get_by_label("Trials").fill("6")
    page.get_by_role("button", name="Submit").click()


def _file(field: str) -> str:
    return "model.onnx" if field == "Model" else f"{field.lower()}.npz"


@pytest.mark.slow
def test_from_a_key_to_a_verified_bundle(served: Served, tab: Tab, tmp_path: Path) -> None:
    """The two commands' scenario, without a command."""
    page = tab.page
    tab.open(served.url, served.key)
    submit(tab, tmp_path)
    page.get_by_role("heading", name="through the dashboard").wait_for()
    page.locator(".stages .current").wait_for()
    page.locator("#front-title ~ div svg.wide").wait_for(timeout=SECONDS * 1e3)
    page.locator(".pill", has_text="met").wait_for(timeout=SECONDS * 1e3)
    assert page.locator(".marks > use").count() >= 2
    assert "verify" in page.locator(".log").inner_text()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download the bundle").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        archive.extractall(tmp_path / "fetched")
    verified = served.command(
        "verify", "fetched/bundle", "--model", "model.onnx", "--validation", "validation.npz"
    )
    assert verified.returncode == 0, verified.stderr
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Open the report").click()
    report = opened.value
    report.get_by_role("heading", name="The contract").wait_for()
    assert report.evaluate("window.origin") == "null", "a report has no access to the key"


def test_a_wrong_key_is_told_and_a_right_one_opens(live: LiveService, url: str, tab: Tab) -> None:
    tab.page.goto(url)
    tab.page.get_by_label("Key", exact=True).fill("key_wrong.secret")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("alert").get_by_text("not valid").wait_for()
    tab.open(url, live.key)
    tab.page.get_by_text("No jobs yet").wait_for()
    tab.page.get_by_role("button", name="Forget the key").click()
    tab.page.get_by_label("Key", exact=True).wait_for()
    assert tab.page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_a_server_without_schedules_shows_no_link(live: LiveService, url: str, tab: Tab) -> None:
    tab.open(url, live.key)
    there = "/v1/schedules" in live.http.get("/openapi.json").json()["paths"]
    tab.page.wait_for_function(
        "there => document.getElementById('schedules-link').hidden !== there", arg=there
    )


def test_a_job_is_followed_live(live: LiveService, url: str, tab: Tab) -> None:
    """Stages, trials, the front and the end appear without anybody loading the page again."""
    page, database = tab.page, live.service.database
    job = add_job(live, HOSTILE)
    tab.open(url, live.key)
    page.get_by_role("link", name=HOSTILE).click()
    page.get_by_role("heading", name=HOSTILE).wait_for()
    page.get_by_text("Waits for the device.").wait_for()
    with database.writing() as session:
        row = session.get_one(JobRow, job)
        move(session, row, "running")
        row.runner, row.lease_until = "me", 9e9
        row.progress = {"stage": "search", "detail": "evolution", "done": 1, "total": 4}
        add_event(session, row, "stage", {"stage": "search", "detail": ""})
    page.locator(".stages .current", has_text="search").wait_for()
    assert page.get_by_role("progressbar").get_attribute("max") == "4"
    lease = JobLease(database, job, "me", "bench")
    lease.trial(record(1), "recipe1")
    page.get_by_role("row", name="recipe1 best so far").wait_for()
    page.locator("#front-title ~ div svg.wide .marks").wait_for()
    lease.event("note", {"text": HOSTILE})
    page.get_by_role("listitem").get_by_text(HOSTILE).wait_for()
    problem = {"detail": "row 7 is wrong", "hint": "mend it", "status": 422}
    lease.end("failed", problem=problem)
    page.get_by_role("alert").get_by_text("row 7 is wrong").wait_for()
    page.get_by_text("The job delivered nothing.").wait_for()


def test_a_job_is_cancelled_resumed_and_deleted(live: LiveService, url: str, tab: Tab) -> None:
    page, job = tab.page, add_job(live, "short-lived")
    tab.open(url, live.key)
    page.get_by_role("link", name="short-lived").click()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".pill", has_text="cancelled").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_label("Latency budget").fill("no budget")
    page.get_by_role("button", name="Go on").click()
    page.locator("#wrong-latency_budget", has_text="is no latency budget").wait_for()
    assert page.evaluate("document.activeElement.id") == "field-latency_budget"
    page.get_by_label("Latency budget").fill("40%")
    page.get_by_role("button", name="Go on").click()
    page.locator(".pill", has_text="queued").wait_for()
    with live.service.database.reading() as session:
        assert session.get_one(JobRow, job).request["latency_budget"] == "40%"
    page.get_by_role("button", name="Cancel").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("No jobs yet").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(
    live: LiveService, url: str, tab: Tab, width: int, scheme: str
) -> None:
    job = add_job(live, "x" * 200, problem={"detail": "y" * 300, "status": 422}, state="failed")
    add_upload(live, "dat_free", "x" * 200)
    add_upload(live, "mdl_used", "x.onnx", *(add_job(live, "") for _ in range(10)))
    add_schedule(live, "sch_one", "x" * 200)
    hook = {"url": f"https://hooks.example.com/{'x' * 200}"}
    assert live.http.post("/v1/webhooks", json=hook).status_code == 201
    page = tab.page
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    tab.open(url, live.key)
    for place in (*tab.places(), f"#/jobs/{job}"):
        page.goto(f"{url}/{place}")
        page.reload()  # another hash alone loads nothing, and what was there is still there
        page.locator("h1").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert ground != ink


def test_the_keyboard_is_enough(live: LiveService, url: str, tab: Tab) -> None:
    add_job(live, "by keyboard")
    page = tab.page
    tab.open(url, live.key)
    page.locator("table").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "by keyboard":
            break
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="by keyboard").wait_for()


SCHEDULE = {
    "id": "sch_1", "name": HOSTILE, "kind": "reverify", "cron": "0 3 * * *", "told": "At 03:00",
    "time_zone": "Europe/Berlin", "missed": "once", "overlap": "skip", "paused": False,
    "next_due": 1795399200.0, "created": 1795323760.2, "request": {},
}  # fmt: skip
RUN = {
    "id": "run_1", "cause": "cron", "due": 1795399200.0, "state": "finished", "job": "job_1",
    "outcome": {"verdict": "met", "latency_ratio": 0.57, "regressions": ["10 % slower"]},
}  # fmt: skip


def test_schedules_are_listed_where_there_are_any(live: LiveService, url: str, tab: Tab) -> None:
    """The routes are another's: here they are answered by the test."""
    page, asked = tab.page, []
    tab.open(url, live.key)
    document = {**live.http.get("/openapi.json").json(), "paths": {"/v1/schedules": {}}}
    page.route("**/openapi.json", lambda route: route.fulfill(json=document))

    def answer(route: Any) -> None:
        asked.append(route.request.method + " " + route.request.url.partition("/v1/")[2])
        runs = route.request.url.endswith("/runs")
        route.fulfill(json={"items": [RUN if runs else SCHEDULE]})

    page.route("**/v1/schedules**", answer)
    page.route("**/v1/schedules/**", answer)
    page.reload()
    page.get_by_role("link", name="Schedules").click()
    page.get_by_text(HOSTILE).first.wait_for()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Run now").click()
    page.get_by_text("10 % slower").wait_for()
    assert {"POST schedules/sch_1:pause", "POST schedules/sch_1:run"} <= set(asked)
    assert page.get_by_role("link", name="job_1").get_attribute("href") == "#/jobs/job_1"
