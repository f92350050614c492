"""The dashboard's pages hold nothing secret, load nothing from elsewhere, and links expire."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import delete

from api import signed_links
from api.job_ledger import JobLease, move
from api.tables import JobRow, TrialRow
from autosparse.artifacts.report import report_asset
from tests.api.live_service import LiveService
from tests.api.queue_world import CONFIG, record
from tests.api.test_deliveries import deliver, end

SOURCES = re.compile(r"""(?:src|href)="/dashboard/([^"]+)"|from "\./([^"]+)\"""")


def parts_of(live: LiveService, path: str = "/") -> dict[str, str]:
    """Everything that a page loads, and what that loads."""
    found: dict[str, str] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        answer = live.http.get(path, headers={"Authorization": ""})
        assert answer.status_code == 200, path
        found[path] = answer.text
        names = {f"/dashboard/{''.join(name)}" for name in SOURCES.findall(answer.text)}
        waiting += names - found.keys()
    return found


def test_everything_that_a_page_loads_is_here(live: LiveService) -> None:
    found = parts_of(live)
    assert {"/dashboard/report.css", "/dashboard/main.js", "/dashboard/job_page.js"} <= set(found)
    assert found["/dashboard/report.css"] == report_asset("report.css")
    for path, text in found.items():
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path
        for dangerous in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert dangerous not in text, (path, dangerous)


def test_pages_may_load_only_from_this_server(live: LiveService) -> None:
    for path in ("/", "/dashboard/main.js"):
        headers = live.http.get(path).headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
    page = live.http.get("/").text
    assert "<script>" not in page
    assert "style=" not in page


def test_the_api_describes_itself_on_a_page(live: LiveService) -> None:
    """Of the dashboard, so that it loads from this server alone, as the others do."""
    answer = live.http.get("/docs", headers={"Authorization": ""}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/#/docs")
    assert "content-security-policy" in answer.headers
    assert "/dashboard/docs_page.js" in parts_of(live)


def test_a_page_that_is_known_is_not_sent_again(live: LiveService) -> None:
    tag = live.http.get("/").headers["etag"]
    again = live.http.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    ["no.js", "__init__.py", "..%2fapp.py", "%2e%2e%2fkeys.py", "report.html", "a/b.js", "."],
)
def test_no_other_file_is_a_page(live: LiveService, name: str) -> None:
    assert live.http.get(f"/dashboard/{name}").status_code == 404


@pytest.fixture
def delivered(live: LiveService, fields: dict[str, Any]) -> str:
    """A finished job of the first key, with a bundle."""
    job: str = live.http.post("/v1/jobs", json=fields).json()["id"]
    deliver(live, job)
    end(live, job)
    return job


def test_the_bundle_comes_as_one_file(live: LiveService, delivered: str) -> None:
    answer = live.http.get(f"/v1/jobs/{delivered}/bundle")
    assert answer.headers["content-type"] == "application/zip"
    names = {
        item["name"] for item in live.http.get(f"/v1/jobs/{delivered}/artifacts").json()["items"]
    }
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name.removeprefix("bundle/") for name in archive.namelist()} == names
        for name in names:
            one = live.http.get(f"/v1/jobs/{delivered}/artifacts/{name}").content
            assert archive.read(f"bundle/{name}") == one


def link(live: LiveService, job: str, **asked: str) -> str:
    answer = live.http.post(f"/v1/jobs/{job}/links", json=asked)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["url"]
    return url


def bare(live: LiveService, url: str) -> Any:
    """Open a link without a key, as a browser does."""
    return live.http.get(url, headers={"Authorization": ""})


def test_a_link_opens_one_thing_without_a_key(live: LiveService, delivered: str) -> None:
    url = link(live, delivered, artifact="kernels/lib.so")
    assert bare(live, url).status_code == 200
    asked = urlsplit(url).query
    for path in ("manifest.json", "../bundle", "kernels/other.so"):
        other = f"/v1/jobs/{delivered}/artifacts/{path}?{asked}"
        assert bare(live, other).status_code == 401
    for path in (f"/v1/jobs/{delivered}/bundle", f"/v1/jobs/{delivered}", "/v1/jobs"):
        assert bare(live, f"{path}?{asked}").status_code == 401
    assert live.http.post(url, headers={"Authorization": ""}).status_code in (401, 405)
    assert bare(live, link(live, delivered)).headers["content-type"] == "application/zip"


def test_a_changed_link_opens_nothing(live: LiveService, delivered: str) -> None:
    url = link(live, delivered, artifact="kernels/lib.so")
    other = live.new_key()["Authorization"].removeprefix("Bearer ").partition(".")[0]
    mine = live.key.partition(".")[0]
    for changed in (
        url.replace("until=", "until=9"), url.replace("signature=", "signature=0"),
        url.replace(mine, other), url.replace(mine, "key_none"), url.replace("until=", "until=x"),
        re.sub("until=[0-9]+", "until=", url), re.sub("signature=.*", "signature=%ff%00", url),
    ):  # fmt: skip
        assert changed != url
        assert bare(live, changed).status_code == 401, changed


def test_a_link_expires_and_ends_with_its_key(
    live: LiveService, delivered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = link(live, delivered, artifact="kernels/lib.so")
    other = live.new_key()  # the last one could not be revoked
    live.http.delete(f"/v1/keys/{live.key.partition('.')[0]}")
    assert bare(live, url).status_code == 401
    monkeypatch.setattr(signed_links, "LIFETIME_SECONDS", -1.0)
    live.http.headers.update(other)
    assert live.http.post(f"/v1/jobs/{delivered}/links", json={}).status_code == 404


def test_an_expired_link_opens_nothing(
    live: LiveService, delivered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_links, "LIFETIME_SECONDS", -2.0)
    assert bare(live, link(live, delivered)).status_code == 401


def test_a_report_is_shown_in_a_cage(live: LiveService, delivered: str) -> None:
    shown = bare(live, link(live, delivered, artifact="report.html"))
    assert shown.headers["content-type"].startswith("text/html")
    policy = shown.headers["content-security-policy"]
    assert "sandbox allow-scripts;" in policy
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy.replace("default-src 'none'", "")
    assert "content-disposition" not in shown.headers
    saved = live.http.get(f"/v1/jobs/{delivered}/artifacts/report.html")
    assert "attachment" in saved.headers["content-disposition"]
    model = live.http.get(f"/v1/jobs/{delivered}/artifacts/kernels/lib.so?show=true")
    assert "attachment" in model.headers["content-disposition"]


def test_the_plot_is_that_of_the_report(live: LiveService, delivered: str) -> None:
    """It grows with the trials, its marks are theirs, and names from a job are only text."""
    path = f"/v1/jobs/{delivered}/front"
    with live.service.database.writing() as session:
        session.execute(delete(TrialRow))
        row = session.get_one(JobRow, delivered)
        row.config, row.manifest = CONFIG, None
        move(session, row, "running")
        row.runner = "me"
    assert live.http.get(path).status_code == 404
    lease = JobLease(live.service.database, delivered, "me", "bench")
    for number in (1, 2):
        told = record(number)
        told["evidence"]["latency_ratio"] = 0.4 + number / 10
        told["proposed_by"] = "<script>alert(1)</script>"
        lease.trial(told, None)
        page = live.http.get(path).text
        assert page.count('class="axis"') == 4
        assert f"{number}\N{NO-BREAK SPACE}measured trial" in page
        assert "budget 60" in page
    assert "<script>alert" not in page
    assert live.http.get(path, headers=live.new_key()).status_code == 404
