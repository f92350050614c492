"""Uploads, what may be changed of jobs, schedules and keys, and the name of every control."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.tables import JobRow, JobUploadRow
from tests.api.live_service import LiveService
from tests.api.seeded import add_job, add_schedule, add_upload, begin
from tests.browser.conftest import Tab
from tests.browser.test_dashboard import HOSTILE, SCHEDULE
from tests.browser.test_dashboard_pages import go, said

pytestmark = pytest.mark.browser
# what a button opens
OPENS = {
    "Change": "#field-change-name", "Schedule": "#field-cron", "Resume": "#field-latency_budget",
}  # fmt: skip
NAMELESS = """() => {
  const words = (ids) => ids.split(" ").map((id) => document.getElementById(id)?.textContent ?? "");
  const named = (one) => {
    const beside = [...(one.labels ?? [])].map((label) => label.textContent);
    const inside = one.matches("input, select, textarea") ? "" : one.textContent;
    const told = words(one.getAttribute("aria-labelledby") ?? "");
    const alone = !one.id || document.querySelectorAll(`[id="${one.id}"]`).length === 1;
    return alone && [one.getAttribute("aria-label"), ...told, ...beside, inside].join("").trim();
  };
  const controls = "a, button, input, select, textarea, summary, [tabindex='0']";
  return [...document.querySelectorAll(controls)].filter((one) => !named(one)).map((one) => one.outerHTML);
}"""  # noqa: E501


def answer_dialogs(tab: Tab, *answers: bool) -> list[str]:
    """Say yes or no to each question in turn, yes at last; what was asked."""
    asked, given = list[str](), iter(answers)

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        if next(given, True):
            dialog.accept()
        else:
            dialog.dismiss()

    tab.page.on("dialog", answer)
    return asked


def focused_name(tab: Tab) -> str:
    """What screen readers call the control that has the focus."""
    name: str = tab.page.evaluate(
        "document.activeElement.ariaLabel ?? document.activeElement.textContent"
    )
    return name


def press_tab_until(tab: Tab, name: str) -> None:
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        if focused_name(tab) == name:
            return
    pytest.fail(f"no way to {name!r} from the keyboard")


def test_uploads_are_listed_with_what_needs_them_and_deleted(
    live: LiveService, url: str, tab: Tab
) -> None:
    page, job = tab.page, add_job(live, "needs it")
    add_upload(live, "mdl_used", "resnet20.onnx", job)
    add_upload(live, "dat_free", HOSTILE, size_bytes=3 << 20)
    announced = {"kind": "dataset", "name": "train.npz", "size_bytes": 5 << 20}
    assert live.http.post("/v1/uploads", json=announced).status_code == 201
    asked = answer_dialogs(tab, False, True)
    tab.open(url, live.key)
    go(tab, "Uploads")
    page.get_by_text("3 in all, 8.0 MiB").wait_for()
    page.get_by_role("row", name="train.npz").get_by_text("0 B have arrived").wait_for()
    used = page.get_by_role("row", name="resnet20.onnx")
    assert used.get_by_role("link", name=job).get_attribute("href") == f"#/jobs/{job}"
    assert used.get_by_role("button").count() == 0
    delete = page.get_by_role("button", name=f"Delete: {HOSTILE}")
    delete.click()
    assert live.http.get("/v1/datasets/dat_free").status_code == 200
    delete.click()
    said(tab, "was deleted")
    page.get_by_text("2 in all").wait_for()
    page.get_by_role("button", name="Delete: train.npz").click()
    page.get_by_text("1 in all").wait_for()
    assert [HOSTILE in told for told in asked] == [True, True, False]
    for path in ("/v1/datasets", "/v1/uploads"):
        assert live.http.get(path).json()["items"] == []


def test_an_upload_that_is_needed_meanwhile_stays(live: LiveService, url: str, tab: Tab) -> None:
    job = add_job(live, "needs it soon")
    add_upload(live, "dat_free", "rows.npz")
    answer_dialogs(tab)
    tab.open(url, live.key)
    go(tab, "Uploads")
    delete = tab.page.get_by_role("button", name="Delete: rows.npz")
    delete.wait_for()
    with live.service.database.writing() as session:
        session.add(JobUploadRow(job=job, upload="dat_free"))
    delete.click()
    tab.page.get_by_role("alert").get_by_text(f"is needed by the job {job}").wait_for()


def test_an_upload_is_deleted_from_the_keyboard(live: LiveService, url: str, tab: Tab) -> None:
    add_upload(live, "dat_free", "rows.npz")
    answer_dialogs(tab)
    tab.open(url, live.key)
    tab.page.get_by_text("No jobs yet").wait_for()
    press_tab_until(tab, "Uploads")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Uploads").wait_for()
    press_tab_until(tab, "Delete: rows.npz")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("No uploads yet").wait_for()
    said(tab, "rows.npz was deleted")
    assert focused_name(tab).startswith("No uploads yet")


def test_a_jobs_name_priority_and_keeping_are_changed(
    live: LiveService, url: str, tab: Tab
) -> None:
    page, job = tab.page, add_job(live, "plain")
    sent: list[Any] = []

    def heard(request: Any) -> None:
        if request.method == "PATCH":
            sent.append(request.post_data_json)

    page.on("request", heard)
    tab.open(url, live.key)
    page.get_by_role("link", name="plain").click()
    page.get_by_role("button", name="Change").click()
    form = page.get_by_role("form", name="Change plain")
    form.get_by_label("Name").fill("urgent")
    form.get_by_label("Priority").fill("5000")
    form.get_by_role("button", name="Save").click()
    page.locator("#wrong-change-priority", has_text="whole number").wait_for()
    begin(live, job)
    page.locator(".busy .pill").wait_for()
    assert form.get_by_label("Name").input_value() == "urgent", "what was typed stays"
    form.get_by_label("Priority").fill("7")
    form.get_by_label("Kept").check()
    form.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="urgent").wait_for()
    page.get_by_text("priority 7").wait_for()
    page.get_by_text("kept", exact=True).wait_for()
    assert sent == [
        {"name": "urgent", "priority": 5000}, {"name": "urgent", "priority": 7, "kept": True},
    ]  # fmt: skip
    assert focused_name(tab) == "Change", "the focus is where it was"
    with live.service.database.reading() as session:
        row = session.get_one(JobRow, job)
        assert (row.name, row.priority, row.kept) == ("urgent", 7, True)
    page.get_by_role("button", name="Change").click()
    assert page.get_by_label("Kept").is_checked()
    page.get_by_role("button", name="Close").click()
    assert page.get_by_role("form").count() == 0


def test_a_search_is_scheduled_from_its_page(live: LiveService, url: str, tab: Tab) -> None:
    page, sent = tab.page, list[Any]()
    add_job(live, "nightly")

    def answer(route: Any) -> None:
        if route.request.method == "POST":
            sent.append(route.request.post_data_json)
            route.fulfill(status=201, json=SCHEDULE)
        else:
            route.continue_()

    page.route("**/v1/schedules**", answer)
    tab.open(url, live.key)
    page.get_by_role("link", name="nightly").click()
    page.get_by_role("button", name="Schedule", exact=True).click()
    page.get_by_label("Cron").fill("0 1 * * SUN")
    page.get_by_role("button", name="Make", exact=True).click()
    page.get_by_role("heading", name="Schedules", exact=True).wait_for()
    (asked,) = sent
    wished = {"kind": "search", "request": {"latency_budget": "60%"}, "name": "nightly"}
    assert {**asked, **wished, "cron": "0 1 * * SUN"} == asked


def test_a_schedule_is_changed(live: LiveService, url: str, tab: Tab) -> None:
    page = tab.page
    add_schedule(live, "sch_one", "nightly")
    tab.open(url, live.key)
    go(tab, "Schedules")
    page.get_by_role("button", name="Change: nightly").click()
    form = page.get_by_role("form", name="Change nightly")
    form.get_by_label("Cron").fill("30 4 * *")
    form.get_by_role("button", name="Save").click()
    page.locator("#wrong-change-cron", has_text="five fields").wait_for()
    form.get_by_label("Cron").fill("30 4 * * MON")
    form.get_by_label("Missed").select_option("skip")
    form.get_by_role("button", name="Save").click()
    page.get_by_role("row", name="nightly").get_by_text("skip, skip").wait_for()
    assert focused_name(tab) == "Change: nightly"
    now = live.http.get("/v1/schedules/sch_one").json()
    assert (now["cron"], now["missed"], now["overlap"]) == ("30 4 * * MON", "skip", "skip")


def test_a_key_gets_another_secret(live: LiveService, url: str, tab: Tab) -> None:
    page = tab.page
    answer_dialogs(tab)
    tab.open(url, live.key)
    go(tab, "Keys")
    page.get_by_role("button", name="Rotate: first").click()
    secret = page.locator(".once code").inner_text()
    assert secret.partition(".")[0] == live.key.partition(".")[0]
    for key, status in ((live.key, 401), (secret, 200)):
        header = {"Authorization": f"Bearer {key}"}
        assert live.http.get("/v1/jobs", headers=header).status_code == status
    page.get_by_role("button", name="It is stored safely").click()
    go(tab, "Jobs")
    page.get_by_text("No jobs yet").wait_for()


def test_a_key_that_manages_none_rotates_itself(live: LiveService, url: str, tab: Tab) -> None:
    answer_dialogs(tab)
    tab.open(url, live.new_key("read")["Authorization"].removeprefix("Bearer "))
    go(tab, "Keys")
    tab.page.get_by_role("button", name="Rotate this key").click()
    secret = tab.page.locator(".once code").inner_text()
    header = {"Authorization": f"Bearer {secret}"}
    assert live.http.get("/v1/jobs", headers=header).status_code == 200


def test_jobs_are_found_by_name(live: LiveService, url: str, tab: Tab) -> None:
    page = tab.page
    for name in ("nightly small", "weekly", "nightly large"):
        add_job(live, name)
    tab.open(url, live.key)
    page.get_by_label("Called").fill("nightly")
    page.get_by_role("link", name="weekly").wait_for(state="detached")
    assert page.get_by_role("link", name="nightly").count() == 2
    page.get_by_label("Called").fill("yearly & more")
    page.get_by_text('No job has "yearly & more" in its name.').wait_for()
    page.get_by_label("State").select_option("failed")
    page.get_by_text('No job is failed and has "yearly & more" in its name.').wait_for()


def test_every_control_of_every_page_has_a_name(live: LiveService, url: str, tab: Tab) -> None:
    """And an id of its own, else a label would be another's."""
    page, job = tab.page, add_job(live, "", state="failed")
    add_upload(live, "mdl_used", "", job)
    add_upload(live, "dat_free", "")
    add_schedule(live, "sch_one", "")
    live.http.post("/v1/targets", json={"name": "box"})
    live.http.post("/v1/webhooks", json={"url": "https://hooks.example.com"})
    tab.open(url, live.key)
    places = tab.places()
    assert {"#/", "#/uploads", "#/schedules", "#/webhooks"} <= set(places)
    for place in (*places, f"#/jobs/{job}"):
        page.goto(f"{url}/{place}")
        page.reload()
        page.locator("h1").wait_for()
        assert page.evaluate(NAMELESS) == [], place
        for words, field in OPENS.items():
            for button in page.locator("main button", has_text=re.compile(f"^{words}$")).all():
                button.click()
                page.locator(field).wait_for()
                assert page.evaluate(NAMELESS) == [], (place, words)
    page.evaluate("document.querySelector('main').append(document.createElement('select'))")
    assert page.evaluate(NAMELESS) == ["<select></select>"], "it sees what has no name"
