"""A job's layers: what its level table holds, while another process writes it."""

from __future__ import annotations

import pytest

from tests.api.live_service import LiveService
from tests.api.queue_world import record
from tests.api.seeded import add_cells, add_job, begin, table_of

HERE = record(1)["environment"]
TIMES: dict[str, dict[str, float | None]] = {
    "conv": {"dense:fp32": 3e-5, "dense:int8": 2e-5, "unstructured@0.9:fp32+alps": 1e-5},
    "fc": {"dense:fp32": 1e-5, "dense:int8": 1.5e-5, "2:4:int8+wanda": None},
}


@pytest.fixture
def job(shared_live: LiveService) -> str:
    return add_job(shared_live, "with layers")


def test_there_are_none_before_the_table_is_begun(shared_live: LiveService, job: str) -> None:
    assert shared_live.http.get(f"/v1/jobs/{job}/layers").json()["items"] == []


def test_every_level_tells_what_it_saves_or_why_not(shared_live: LiveService, job: str) -> None:
    add_cells(shared_live, job, HERE, TIMES)
    conv, fc = shared_live.http.get(f"/v1/jobs/{job}/layers").json()["items"]
    assert (conv["name"], fc["name"]) == ("conv", "fc")
    assert [one["level"] for one in conv["levels"]] == list(TIMES["conv"])
    saved = [one["saved_seconds"] for one in conv["levels"]]
    assert saved == pytest.approx([0.0, 1e-5, 2e-5])
    _, slower, barred = fc["levels"]
    assert slower["saved_seconds"] == pytest.approx(-5e-6)
    assert (barred["searched"], barred["saved_seconds"]) == (False, None)
    assert barred["reason"] == "3 channels are too few", "the layer is named already"


def test_what_is_being_written_is_left_alone(shared_live: LiveService, job: str) -> None:
    """A reader that cut a line which is not whole yet would destroy what is written just now."""
    add_cells(shared_live, job, HERE, TIMES)
    path = table_of(shared_live, job, HERE) / "cells.jsonl"
    torn = path.read_bytes() + b'{"layer": "fc", "lev'
    path.write_bytes(torn)
    assert len(shared_live.http.get(f"/v1/jobs/{job}/layers").json()["items"]) == 2
    assert path.read_bytes() == torn


def test_seconds_are_those_of_the_last_trials_environment(
    shared_live: LiveService, job: str
) -> None:
    add_cells(shared_live, job, HERE, TIMES)
    add_cells(shared_live, job, "elsewhere", {"conv": {"dense:fp32": 9.0}})
    begin(shared_live, job).trial(record(1), None)
    conv, _ = shared_live.http.get(f"/v1/jobs/{job}/layers").json()["items"]
    assert conv["levels"][0]["seconds"] == 3e-5


def test_a_damaged_table_is_told_without_its_place(shared_live: LiveService, job: str) -> None:
    add_cells(shared_live, job, HERE, TIMES)
    (table_of(shared_live, job, HERE) / "cells.jsonl").write_bytes(b"no cell\n")
    answer = shared_live.http.get(f"/v1/jobs/{job}/layers")
    assert answer.status_code == 507
    assert "damaged" in answer.json()["detail"]
    assert str(shared_live.service.files.root) not in answer.text
