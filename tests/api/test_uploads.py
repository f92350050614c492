"""Uploads: looked into, stored once, refused with a sentence, forgotten with their last owner."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import onnx
import pytest

from api.inspection import Inspector
from autosparse.evaluation import Target
from tests.api.live_service import LiveService, listening, live_service, rows_file
from tests.api.seeded import add_job, add_schedule, add_upload
from tests.api.served import until


def test_a_model_tells_its_inputs_and_layers(live: LiveService, residual_model: Path) -> None:
    answer = live.http.post("/v1/models?name=résidu", content=residual_model.read_bytes())
    assert answer.status_code == 201
    told = answer.json()
    assert answer.headers["location"] == f"/v1/models/{told['id']}"
    assert told["name"] == "résidu"
    assert told["layers"] == 7
    assert told["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 8, 8]}]
    assert told["sha256"] == hashlib.sha256(residual_model.read_bytes()).hexdigest()
    assert live.http.get(f"/v1/models/{told['id']}").json() == told
    assert live.http.get("/v1/models").json() == {"items": [told], "next": None}


def test_a_dataset_tells_its_arrays(live: LiveService, tmp_path: Path) -> None:
    told = live.upload("datasets", rows_file(tmp_path / "rows.npz", rows=5)).json()
    assert told["arrays"] == [
        {"name": "image", "dtype": "float32", "shape": [5, 3, 8, 8]},
        {"name": "labels", "dtype": "int64", "shape": [5]},
    ]


def test_equal_bytes_are_stored_once_and_until_their_last_owner_goes(
    live: LiveService, residual_model: Path
) -> None:
    other = live.new_key()
    mine = live.upload("models", residual_model.read_bytes()).json()
    theirs = live.upload("models", residual_model.read_bytes(), **other).json()
    assert mine["id"] != theirs["id"]
    stored = live.service.files.model(mine["sha256"])
    assert [path.name for path in stored.parent.iterdir()] == [mine["sha256"]]
    assert live.http.delete(f"/v1/models/{mine['id']}").status_code == 204
    assert (stored / "model.onnx").read_bytes() == residual_model.read_bytes()
    assert live.http.delete(f"/v1/models/{theirs['id']}", headers=other).status_code == 204
    assert not stored.exists()


def test_nothing_is_left_of_what_was_refused(live: LiveService) -> None:
    answer = live.upload("models", b"no model")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:autosparse:problem:model"
    assert live.http.get("/v1/models").json()["items"] == []
    for part in ("incoming", "models", "blobs"):
        assert list((live.service.files.root / part).iterdir()) == []


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_an_empty_body_is_refused(live: LiveService, kind: str) -> None:
    assert live.upload(kind, b"").status_code == 400


def external(directory: Path, source: Path) -> tuple[Path, Path]:
    """The model with its weights in a file beside it."""
    model, data = directory / "apart.onnx", directory / "weights.bin"
    onnx.save_model(
        onnx.load(source), model, save_as_external_data=True, location=data.name, size_threshold=0
    )
    return model, data


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("folder", ["", "exported/v1/"])
def test_a_zip_brings_external_data(
    live: LiveService, residual_model: Path, tmp_path: Path, folder: str
) -> None:
    model, data = external(tmp_path, residual_model)
    members = {f"{folder}{path.name}": path.read_bytes() for path in (model, data)}
    answer = live.upload("models", packed(members))
    assert answer.status_code == 201, answer.text
    assert answer.json()["layers"] == 7


def test_external_data_that_is_missing_is_named(
    live: LiveService, residual_model: Path, tmp_path: Path
) -> None:
    model, _ = external(tmp_path, residual_model)
    for content in (model.read_bytes(), packed({"m.onnx": model.read_bytes()})):
        answer = live.upload("models", content)
        assert answer.status_code == 422
        assert "weights.bin" in answer.json()["detail"]


def test_a_zip_holds_exactly_one_model(live: LiveService, residual_model: Path) -> None:
    content = residual_model.read_bytes()
    for members in ({"a.onnx": content, "b.onnx": content}, {"readme.txt": b"nothing"}):
        answer = live.upload("models", packed(members))
        assert answer.status_code == 422
        assert "ONNX files" in answer.json()["detail"]


def test_an_upload_over_the_limit_is_not_kept(tmp_path: Path, inspector: Inspector) -> None:
    with live_service(tmp_path / "home", inspector, max_dataset_bytes=10_000) as live:
        announced = live.upload("datasets", bytes(10_001))
        streamed = live.http.post("/v1/datasets", content=(bytes(1000) for _ in range(20)))
        assert announced.status_code == streamed.status_code == 413
        assert announced.json()["type"] == "urn:autosparse:problem:too-large"
        assert list((live.service.files.root / "incoming").iterdir()) == []


def test_a_key_has_a_quota_of_bytes(tmp_path: Path, inspector: Inspector) -> None:
    content = rows_file(tmp_path / "rows.npz")
    with live_service(tmp_path / "home", inspector, max_stored_bytes=len(content)) as live:
        assert live.upload("datasets", content).status_code == 201
        assert live.upload("datasets", content).status_code == 429
        assert live.upload("datasets", content, **live.new_key()).status_code == 201


def test_what_is_on_its_way_counts(tmp_path: Path, inspector: Inspector) -> None:
    """Else many at once would fill the disk, each of them within the quota."""
    with live_service(tmp_path / "home", inspector, max_stored_bytes=1_000_000) as live:
        may_go_on, here = threading.Event(), live.service.files.root / "incoming"
        most = bytes(600_000)

        def slowly() -> Iterator[bytes]:
            yield most
            may_go_on.wait()

        headers = {"Authorization": f"Bearer {live.key}"}
        with (
            listening(live.service) as url,
            httpx.Client(base_url=url, headers=headers, timeout=60) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            first = pool.submit(client.post, "/v1/models", content=slowly())
            try:
                until(lambda: sum(one.stat().st_size for one in here.iterdir()) >= 500_000)
                for content in (most, iter([most[:300_000], most[300_000:]])):
                    assert live.http.post("/v1/models", content=content).status_code == 429
                other = live.upload("models", most, **live.new_key())
                assert other.status_code == 422, "another key has room of its own"
            finally:
                may_go_on.set()
            assert first.result().status_code == 422
        assert live.upload("models", most).status_code == 422
        assert list(here.iterdir()) == []


def test_arrays_with_objects_are_refused(live: LiveService, tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", image=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    answer = live.upload("datasets", (tmp_path / "objects.npz").read_bytes())
    assert answer.status_code == 422
    assert "objects" in answer.json()["detail"]


def test_a_list_is_paged_without_gaps(live: LiveService, tmp_path: Path) -> None:
    content = rows_file(tmp_path / "rows.npz", rows=2)
    made = [live.upload("datasets", content).json()["id"] for _ in range(5)]
    seen: list[str] = []
    after = ""
    while True:
        page = live.http.get(f"/v1/datasets?limit=2{after}").json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == made[::-1]


def test_targets_are_checked_and_kept(live: LiveService) -> None:
    made = live.http.post("/v1/targets", json={"name": "box", "threads": 2})
    assert made.status_code == 201
    assert live.http.get(f"/v1/targets/{made.json()['id']}").json()["document"]["threads"] == 2
    elsewhere = {"name": "box", "address": "rpc://10.0.0.1:22", "key_file": "/etc/passwd"}
    refused = live.http.post("/v1/targets", json=elsewhere)
    assert refused.status_code == 422
    assert "measures on its own device only" in refused.json()["detail"]
    wrong = live.http.post("/v1/targets", json={"name": "box", "cores": 2})
    assert wrong.status_code == 422
    assert "cores" in wrong.json()["detail"]


def test_only_its_owner_reads_what_is_stored(live: LiveService) -> None:
    assert live.service.files.root.stat().st_mode & 0o077 == 0


def test_a_target_is_what_its_schema_says(live: LiveService) -> None:
    """Nothing is read generously: what is stored decides what a latency means."""
    document = live.http.get("/openapi.json").json()
    schema = document["components"]["schemas"]["TargetRequest"]
    assert "onnxruntime" in schema["properties"]["backend"]["enum"]
    assert schema["properties"]["threads"]["minimum"] == 1
    assert schema["properties"]["address"]["const"] == ""
    for wrong, told in (
        ({"threads": "2"}, "threads:"), ({"threads": True}, "threads:"),
        ({"threads": 0}, "threads:"), ({"backend": "abacus"}, "backend:"),
        ({"input_shapes": {"x": [0]}}, "input_shapes.x.0:"), ({"device": "gpu"}, "device:"),
        ({"architecture": "X 86"}, "architecture:"), ({"schema_version": 2}, "schema_version:"),
    ):  # fmt: skip
        refused = live.http.post("/v1/targets", json={"name": "box", **wrong})
        assert refused.status_code == 422, wrong
        assert refused.json()["detail"].removeprefix("the target: ").startswith(told), wrong
    whole = Target(name="box", input_shapes={"x": (1, 128)}).model_dump(mode="json")
    assert live.http.post("/v1/targets", json=whole).status_code == 201
    assert len(live.http.get("/v1/targets").json()["items"]) == 1


def test_a_list_tells_what_needs_each(live: LiveService) -> None:
    """Some of it: a dataset may be needed by thousands of jobs."""
    jobs = [add_job(live, f"job {number}") for number in range(12)]
    add_upload(live, "dat_used", "rows.npz", *jobs)
    add_upload(live, "dat_free", "rows.npz")
    add_schedule(live, "sch_one", "nightly", "dat_used")
    listed = {one["id"]: one["needed_by"] for one in live.http.get("/v1/datasets").json()["items"]}
    assert listed == {"dat_used": [*sorted(jobs)[:10], "sch_one"], "dat_free": []}
    assert live.http.get("/v1/datasets/dat_used").json()["needed_by"] == listed["dat_used"]
    for job in jobs:
        live.http.post(f"/v1/jobs/{job}:cancel")
        live.http.delete(f"/v1/jobs/{job}")
    refused = live.http.delete("/v1/datasets/dat_used")
    assert (refused.status_code, refused.json()["hint"]) == (409, "delete the schedule first")
