"""The log: every line a document, with the ids of what it is about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.json_logs import JsonLines, about
from tests.api.live_service import LiveService
from tests.api.queue_world import RESULT, QueueWorld, trial


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged meanwhile, as it would be written."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("autosparse")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler.stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def documents(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_job_is_found_by_its_id(tmp_path: Path, written: io.StringIO) -> None:
    world = QueueWorld(tmp_path / "home")
    job = world.job([trial(1), trial(2), RESULT])
    with world.running():
        world.ended(job)
        world.until(lambda: "ends" in written.getvalue())
    mine = [line for line in documents(written) if line.get("job") == job]
    assert [line["message"] for line in mine] == ["begins", "trial", "trial", "ends"]
    assert [line.get("trial") for line in mine] == [None, "recipe1", "recipe2", None]
    assert {line["logger"] for line in mine} == {"autosparse.runner"}
    assert mine[-1]["state"] == "finished"
    world.database.close()


def test_a_request_is_a_line_without_its_key(
    live: LiveService, fields: dict[str, Any], written: io.StringIO
) -> None:
    job = live.http.post("/v1/jobs", json=fields).json()["id"]
    live.http.get(f"/v1/jobs/{job}?x=%0a%22")
    accepted, posted, got = documents(written)[-3:]
    mine, _, secret = live.key.partition(".")
    assert (accepted["message"], accepted["job"], accepted["key"]) == ("accepted", job, mine)
    assert (posted["method"], posted["path"], posted["status"]) == ("POST", "/v1/jobs", 202)
    assert (got["path"], got["status"], got["key"]) == (f"/v1/jobs/{job}", 200, mine)
    assert secret not in written.getvalue()


def test_whatever_is_said_is_one_line(written: io.StringIO) -> None:
    log = logging.getLogger("autosparse.test")
    log.warning("two\nlines %s", "\u2028\x00", extra=about(job="job_x", path=Path("/x")))
    try:
        1 // 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("a bug")
    said, bug = documents(written)
    assert said["message"] == "two\nlines \u2028\x00"
    assert (said["level"], said["job"], said["path"]) == ("warning", "job_x", "/x")
    assert "ZeroDivisionError: " in bug["trace"]
