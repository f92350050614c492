"""Atlases over HTTP: asked for as a job, shown as the atlas's own page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.api.live_service import LiveService
from tests.api.seeded import add_job, deliver_atlas
from tests.artifacts.test_atlas_page import HOSTILE, atlas, entry


def test_an_atlas_is_a_job(live: LiveService, fields: dict[str, Any]) -> None:
    target = live.http.post("/v1/targets", json={"name": "box", "threads": 2}).json()["id"]
    asked = {"model": fields["model"], "target": target, "levels": ["2:4:int8"], "name": "weekly"}
    sent: dict[str, Any] = {"json": asked, "headers": {"Idempotency-Key": "once"}}
    answer = live.http.post("/v1/atlases", **sent)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["state"], job["name"]) == ("refresh_atlas", "queued", "weekly")
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    again = live.http.post("/v1/atlases", **sent)
    assert again.json()["id"] == job["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    (listed,) = live.http.get("/v1/jobs?kind=refresh_atlas").json()["items"]
    assert listed["id"] == job["id"]


def test_what_cannot_be_measured_is_refused(live: LiveService, fields: dict[str, Any]) -> None:
    model = {"model": fields["model"]}
    for asked, word in (
        ({}, "model"), ({**model, "latency_budget": "60%"}, "latency_budget"),
        ({**model, "levels": ["dense:int8"]}, "zeros"), ({**model, "levels": ["?"]}, "level"),
        ({**model, "backend": "abacus"}, "backend"), ({**model, "output_dir": "/"}, "output_dir"),
    ):  # fmt: skip
        refused = live.http.post("/v1/atlases", json=asked)
        assert refused.status_code == 422, asked
        assert word in refused.json()["detail"], asked
    reader = live.new_key("read")
    assert live.http.post("/v1/atlases", json=model, headers=reader).status_code == 403
    other = live.new_key()
    assert live.http.post("/v1/atlases", json=model, headers=other).status_code == 404
    assert live.http.get("/v1/jobs").json()["items"] == []


def test_an_atlas_is_taken_in_before_it_is_accepted(
    live: LiveService, fields: dict[str, Any], tmp_path: Path
) -> None:
    """What would be a failed job an hour later is a refusal now; of a schedule, too."""
    np.savez(tmp_path / "other.npz", picture=np.zeros((4, 3, 8, 8), np.float32))
    other = live.upload("datasets", (tmp_path / "other.npz").read_bytes()).json()["id"]
    model = {"model": fields["model"]}
    wrong: list[dict[str, Any]] = [
        {**model, "calibration": other}, {**model, "input_shape": {"image": [1, 3, 9, 9]}},
        {**model, "input_shape": {"picture": [1]}},
    ]  # fmt: skip
    for asked in wrong:
        refused = live.http.post("/v1/atlases", json=asked)
        assert refused.status_code == 422, asked
        assert "image" in refused.json()["detail"] + refused.json()["hint"], asked
        weekly = {"kind": "refresh_atlas", "cron": "0 3 * * MON", "request": asked}
        assert live.http.post("/v1/schedules", json=weekly).status_code == 422, asked
    assert live.http.get("/v1/jobs").json()["items"] == []


def test_it_is_shown_as_its_own_page_shows_it(shared_live: LiveService) -> None:
    job = add_job(shared_live, "atlas", kind="refresh_atlas", state="finished")
    assert shared_live.http.get(f"/v1/jobs/{job}/atlas").status_code == 404
    deliver_atlas(shared_live, job, atlas(entry(HOSTILE), model=HOSTILE))
    page = shared_live.http.get(f"/v1/jobs/{job}/atlas")
    assert page.status_code == 200, page.text
    assert "Sparsity pays for 1 of 1 layer shape" in page.text
    assert f"faster from 82{chr(0xA0)}% zeros on" in page.text
    assert 'class="crossing colour-0"' in page.text
    assert "<script>alert" not in page.text
    assert "<html" not in page.text


def test_an_atlas_of_another_version_is_no_bug_of_the_server(shared_live: LiveService) -> None:
    job = add_job(shared_live, "atlas", kind="refresh_atlas", state="finished")
    deliver_atlas(shared_live, job, atlas(entry()))
    path = shared_live.service.files.job(job) / "out" / "atlas.json"
    path.write_text(path.read_text().replace('"entries"', '"rows"'))
    answer = shared_live.http.get(f"/v1/jobs/{job}/atlas")
    assert answer.status_code == 422
    assert "atlas.html" in answer.json()["hint"]
