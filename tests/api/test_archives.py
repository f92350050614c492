"""Bundles that were packed for download: the disk has room for the latest of them only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from api.file_store import FileStore
from api.inspection import Inspector
from tests.api.live_service import live_service
from tests.api.schedule_world import delivered_job
from tests.api.test_deliveries import deliver


def packed(files: FileStore, name: str, size: int, asked: float) -> Path:
    """An archive that was asked for at some time."""
    made = files.incoming()
    made.write_bytes(bytes(size))
    place = files.keep_archive(made, name, "0" * 64)
    os.utime(place, (asked, asked))
    return place


def test_those_go_first_that_nobody_asked_for_lately(tmp_path: Path) -> None:
    files = FileStore(tmp_path)
    places = {name: packed(files, name, 100, at) for at, name in enumerate("abcd", start=1)}
    assert files.archive("a") == places["a"]  # so it was asked for just now
    files.trim_archives(350, places["d"])
    assert {name for name, place in places.items() if place.exists()} == {"a", "c", "d"}
    files.trim_archives(99, places["c"])
    assert {name for name, place in places.items() if place.exists()} == {"c"}, "whatever its size"


def test_a_bundle_is_packed_within_the_limit(tmp_path: Path, inspector: Inspector) -> None:
    settings: dict[str, Any] = {"max_archive_bytes": 10}
    with live_service(tmp_path / "home", inspector, **settings) as live:
        job = delivered_job(live.service, live.key.partition(".")[0])
        deliver(live, job)
        old = packed(live.service.files, "old", 100, 1.0)
        for _ in range(2):  # it is packed, then it is there
            assert live.http.get(f"/v1/jobs/{job}/bundle").status_code == 200
        (left,) = (live.service.files.root / "archives").iterdir()
        assert left != old
