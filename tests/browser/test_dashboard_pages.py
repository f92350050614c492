"""Keys, targets, atlases, and what a job's page shows of its layers, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from api.inspection import Inspector
from api.job_ledger import move
from api.tables import JobRow
from tests.api.live_service import LiveService
from tests.api.queue_world import record
from tests.api.seeded import add_cells, add_job, add_upload, begin, deliver_atlas, trial
from tests.artifacts.test_atlas_page import atlas, entry
from tests.browser.conftest import Tab

pytestmark = pytest.mark.browser
HERE = record(1)["environment"]
TIMES: dict[str, dict[str, float | None]] = {
    "conv": {"dense:fp32": 3e-5, "dense:int8": 2e-5, "unstructured@0.9:fp32+alps": 0.5e-5},
    "fc": {"dense:fp32": 1e-5, "dense:int8": 1.5e-5, "unstructured@0.9:fp32+alps": None},
}
FAST = {"conv": "unstructured@0.9:fp32+alps", "fc": "dense:fp32"}
PLAIN = {"conv": "dense:int8", "fc": "dense:int8"}


def go(tab: Tab, page: str) -> None:
    tab.page.get_by_role("navigation").get_by_role("link", name=page).click()
    tab.page.get_by_role("heading", name=page, exact=True).wait_for()


def focused(tab: Tab) -> str:
    found: str = tab.page.evaluate("document.activeElement.id")
    return found


def said(tab: Tab, words: str) -> None:
    """Wait until screen readers were told."""
    tab.page.locator("#said", has_text=words).wait_for(state="attached")


def test_a_key_is_made_shown_once_and_revoked(live: LiveService, url: str, tab: Tab) -> None:
    page = tab.page
    tab.open(url, live.key)
    go(tab, "Keys")
    page.get_by_label("Name").fill("continuous integration")
    page.get_by_role("checkbox", name="submit").uncheck()
    page.get_by_role("button", name="Make", exact=True).click()
    page.get_by_role("heading", name="The new key").wait_for()
    assert page.evaluate("document.activeElement.textContent").startswith("The new key")
    secret = page.locator(".once code").inner_text()
    assert secret.startswith("key_")
    header = {"Authorization": f"Bearer {secret}"}
    assert live.http.get("/v1/jobs", headers=header).status_code == 200
    assert live.http.post("/v1/targets", json={}, headers=header).status_code == 403
    page.get_by_role("button", name="It is stored safely").click()
    assert secret not in page.content()
    go(tab, "Jobs")
    go(tab, "Keys")
    assert secret not in page.content()
    asked: list[str] = []

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.on("dialog", answer)
    page.get_by_role("button", name="Revoke: continuous integration").click()
    page.get_by_role("row", name="continuous integration").get_by_text("void").wait_for()
    said(tab, "continuous integration is void")
    assert live.http.get("/v1/jobs", headers=header).status_code == 401
    page.get_by_role("button", name="Revoke: first").click()
    page.get_by_role("alert").get_by_text("last key").wait_for()
    assert "used here" in asked[1]


def test_a_key_that_may_not_manage_keys_is_told_so(live: LiveService, url: str, tab: Tab) -> None:
    header = live.new_key("read", "submit")["Authorization"]
    tab.open(url, header.removeprefix("Bearer "))
    go(tab, "Keys")
    tab.page.get_by_text("does not have the scope admin").wait_for()
    assert tab.page.get_by_role("button", name="Make", exact=True).count() == 0


def test_a_target_is_added_with_the_servers_words_at_the_field(
    live: LiveService, url: str, tab: Tab
) -> None:
    page = tab.page
    tab.open(url, live.key)
    go(tab, "Targets")
    page.get_by_label("Name").fill("edge-box")
    page.get_by_label("Threads").fill("4")
    page.get_by_label("Architecture").fill("X 86")
    page.get_by_role("button", name="Add").click()
    page.locator("#wrong-architecture", has_text="should match pattern").wait_for()
    assert focused(tab) == "field-architecture"
    assert page.get_by_label("Architecture").get_attribute("aria-invalid") == "true"
    said(tab, "should match pattern")
    page.get_by_label("Architecture").fill("")
    page.get_by_label("Input shapes").fill("x=1,none")
    page.keyboard.press("Enter")
    page.locator("#wrong-input_shapes", has_text="valid integer").wait_for()
    assert page.get_by_label("Architecture").get_attribute("aria-invalid") == "false"
    page.get_by_label("Input shapes").fill("x=1,128")
    page.keyboard.press("Enter")
    row = page.get_by_role("row", name="edge-box")
    row.get_by_text("x=1,128").wait_for()
    (stored,) = live.http.get("/v1/targets").json()["items"]
    assert stored["document"]["threads"] == 4
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove: edge-box").click()
    page.get_by_text("No targets yet").wait_for()


def test_an_atlas_is_asked_for_listed_and_shown(
    live: LiveService, url: str, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the model is a name: there is nothing that an intake could look into
    monkeypatch.setattr(Inspector, "inspect", lambda self, kind, **request: {})
    page = tab.page
    add_upload(live, "mdl_seeded", "resnet20.onnx")
    tab.open(url, live.key)
    go(tab, "Atlases")
    page.get_by_label("Name").fill("weekly")
    page.get_by_label("Model: uploaded before").select_option("resnet20.onnx")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Levels").fill("dense:int8")
    page.get_by_role("button", name="Measure", exact=True).click()
    page.locator("#wrong-levels", has_text="has no zeros").wait_for()
    page.get_by_label("Levels").fill("2:4:int8\nunstructured@0.9:fp32")
    page.get_by_role("button", name="Measure", exact=True).click()
    page.get_by_role("heading", name="weekly").wait_for()
    page.get_by_text("It is shown when every level was measured").wait_for()
    assert page.locator("#front-title").count() == 0, "an atlas has no front"
    job = page.url.rpartition("/")[2]
    deliver_atlas(live, job, atlas(entry("conv"), entry("fc", (4, 4))))
    with live.service.database.writing() as session:
        row = session.get_one(JobRow, job)
        row.outcome = {"summary": "It pays.", "break_even": {"unstructured:fp32": "82%"}}
        move(session, row, "finished")
    page.locator(".entry svg.wide .marks").first.wait_for()
    assert page.locator(".entry svg.wide .crossing").count() == 2
    page.get_by_role("link", name="fc").click()
    assert page.url.endswith(job), "a link within the page leads nowhere else"
    assert focused(tab) == "shape-2"
    go(tab, "Atlases")
    page.get_by_role("row", name="weekly").get_by_text("82%").wait_for()
    page.get_by_role("button", name="Measure again: weekly").click()
    page.locator(".pill", has_text="queued").wait_for()
    assert page.url.rpartition("/")[2] != job


def test_layers_show_what_levels_save_and_what_a_recipe_chose(
    live: LiveService, url: str, tab: Tab
) -> None:
    page, job = tab.page, add_job(live, "layer by layer")
    lease = begin(live, job)
    add_cells(live, job, HERE, TIMES)
    tab.open(url, live.key)
    page.get_by_role("link", name="layer by layer").click()
    heat = page.locator("table.heat")
    heat.locator("tbody tr").nth(1).wait_for()
    assert page.locator(".heat .won-5").inner_text().strip() == "0.0250"
    assert page.locator(".heat .lost-1").inner_text().strip() == "\u22120.0050"
    assert page.locator(".heat .chosen").count() == 0, "nothing was measured yet"
    lease.trial(trial(1, 0.8, 0.001, PLAIN), None)
    lease.trial(trial(2, 0.4, 0.003, FAST), "recipe2")
    page.get_by_role("row", name="recipe2 best so far").wait_for()
    heat.locator(".won-5.chosen").wait_for()
    assert heat.locator("tfoot").inner_text().split() == ["All", "layers", "0.0250"]
    page.get_by_label("Recipe", exact=True).select_option("recipe1")
    assert heat.locator(".lost-1.chosen").count() == 1
    page.locator("#anytime-title ~ div svg.wide .marks").first.wait_for()
    page.get_by_text("Why levels are not eligible (1)").click()
    page.get_by_text("3 channels are too few").wait_for()


def test_a_change_of_state_is_told_where_jobs_are_listed(
    live: LiveService, url: str, tab: Tab
) -> None:
    job = add_job(live, "followed from the list")
    tab.open(url, live.key)
    link = tab.page.get_by_role("link", name="followed from the list")
    link.focus()
    begin(live, job)
    said(tab, "followed from the list: running")
    tab.page.locator(".busy .pill").wait_for()
    held = tab.page.evaluate("document.activeElement.textContent")
    assert held == "followed from the list", "the focus stays where it was"


@pytest.mark.parametrize(("wish", "moving"), [("reduce", 0), ("no-preference", 1)])
def test_nothing_moves_for_who_asked_for_it(
    live: LiveService, url: str, tab: Tab, wish: str, moving: int
) -> None:
    begin(live, add_job(live, "moving"))
    tab.page.emulate_media(reduced_motion=wish)
    tab.open(url, live.key)
    tab.page.locator(".busy .pill").wait_for()
    assert tab.page.evaluate("document.getAnimations().length") == moving


def test_what_was_only_simulated_says_so(live: LiveService, url: str, tab: Tab) -> None:
    add_job(live, "in theory", state="finished", verdict="simulated")
    tab.open(url, live.key)
    tab.page.get_by_role("row", name="in theory").get_by_text("SIMULATED").wait_for()


def test_a_webhook_is_made_tested_and_removed(live: LiveService, url: str, tab: Tab) -> None:
    page = tab.page
    tab.open(url, live.key)
    go(tab, "Webhooks")
    page.get_by_label("URL").fill("https://hooks.example.com/autosparse")
    page.get_by_label("Kinds").fill("job.done")
    page.get_by_role("button", name="Make", exact=True).click()
    page.locator("#wrong-kinds").wait_for()
    page.get_by_label("Kinds").fill("job.finished\nregression")
    page.get_by_role("button", name="Make", exact=True).click()
    page.locator(".once code", has_text="whsec_").wait_for()
    page.get_by_role("button", name="It is stored safely").click()
    row = page.get_by_role("row", name="hooks.example.com")
    row.get_by_text("job.finished, regression").wait_for()
    row.get_by_role("button", name="Send a test").click()
    page.locator("table", has_text="waiting").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Remove").click()
    page.get_by_text("No webhooks yet").wait_for()


def test_a_schedule_is_made_paused_and_deleted(
    live: LiveService, url: str, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the model is a name: there is nothing that an intake could look into
    monkeypatch.setattr(Inspector, "inspect", lambda self, kind, **request: {})
    page = tab.page
    tab.open(url, live.key)
    go(tab, "Schedules")
    page.get_by_text("A schedule needs a finished job").wait_for()
    add_upload(live, "mdl_seeded", "resnet20.onnx")
    go(tab, "Jobs")
    go(tab, "Schedules")
    page.get_by_label("What is done").select_option("resnet20.onnx")
    page.get_by_label("Name").fill("weekly")
    page.get_by_label("Cron").fill("0 3 * *")
    page.get_by_role("button", name="Make", exact=True).click()
    page.locator("#wrong-cron", has_text="five fields").wait_for()
    page.get_by_label("Cron").fill("0 3 * * SUN")
    page.get_by_role("button", name="Make", exact=True).click()
    row = page.get_by_role("row", name="weekly")
    row.get_by_role("button", name="Pause").click()
    row.get_by_role("button", name="Resume").wait_for()
    held = page.evaluate("document.activeElement.textContent")
    assert held == "Resume", "the focus stays on the button that it was on"
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete").click()
    page.get_by_text("No schedules yet").wait_for()


@pytest.mark.parametrize("place", ["", "jobs"])
def test_what_goes_wrong_meanwhile_is_shown_until_it_goes_well(
    live: LiveService, url: str, tab: Tab, place: str
) -> None:
    """A page that fell silent would look like a job that does nothing."""
    page = tab.page
    job = add_job(live, "watched")
    tab.open(url, live.key)
    if place:
        page.get_by_role("link", name="watched").click()
        page.get_by_role("heading", name="watched").wait_for()
    broken = {"detail": "the disk of the server is full", "hint": "", "status": 507}
    full = [True]

    def answer(route: Any) -> None:
        if full:
            route.fulfill(status=507, json=broken)
        else:
            route.continue_()

    page.route("**/v1/jobs**", answer)
    page.route(f"**/v1/jobs/{job}", answer)
    page.get_by_role("alert").get_by_text("the disk of the server is full").wait_for()
    full.clear()
    page.get_by_text("the disk of the server is full").wait_for(state="detached")
