"""Damaged models through the upload and the intake of a job: refused or taken, and all go on."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.api.live_service import LIMITS, LiveService
from tests.api.served import Served
from tests.exported_models import export_model, inputs_of
from tests.models import block_with_norm, images, residual_cnn

Arrays = Mapping[str, npt.NDArray[np.generic]]
MUTATIONS, THOUSANDS = 34, 1000
EXPORTED = [("resnet", 17, False), ("vision_transformer", 20, True), ("decoder", 20, True)]
GRACE_SECONDS = 60.0
"""For whatever is not the look itself: the hash, the database, waiting for the other look."""


def structure_of(model: onnx.ModelProto, content: bytes) -> list[int]:
    """Places in a file that are no weights: whatever those are, a model is taken."""
    places = set(range(len(content)))
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 16:
            start = content.index(tensor.raw_data)
            places -= set(range(start, start + len(tensor.raw_data)))
    return sorted(places)


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Bytes flipped, cut, doubled, and lengths overwritten with large numbers."""
    rng, places = random.Random(7), structure_of(onnx.load_from_string(content), content)
    for _ in range(count):
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 3, 20))):
            chosen = rng.choice(places) if rng.random() < 0.7 else rng.randrange(len(data))
            at = min(chosen, len(data) - 1)
            kind = rng.choice((0, 0, 1, 2, 3))  # a byte that is another one is most often taken
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.choice((1, 8, 500))]
            elif kind == 2:
                data[at:at] = data[at : at + rng.choice((1, 8, 500))]
            else:
                data[at : at + 5] = b"\xff\xff\xff\xff\x0f"
            if not data:
                data = bytearray(b"\x00")
        yield bytes(data)


def job_for(http: httpx.Client, inputs: Arrays, directory: Path) -> dict[str, Any]:
    """What is asked of a job with a model that takes these inputs, its data uploaded."""
    arrays: dict[str, Any] = dict(inputs)
    np.savez(directory / "rows.npz", **arrays)
    stored = http.post("/v1/datasets", content=(directory / "rows.npz").read_bytes())
    assert stored.status_code == 201, stored.text
    data = stored.json()["id"]
    return {
        "calibration": data, "validation": data, "latency_budget": "1000%", "max_drop": "100",
        "space": "int8", "input_shape": {name: [1, *a.shape[1:]] for name, a in inputs.items()},
    }  # fmt: skip


def fate(http: httpx.Client, asked: dict[str, Any], content: bytes) -> str:
    """Upload a model, and submit a job with it where it was taken; nothing is left of either."""
    answer = http.post("/v1/models", content=content)
    if answer.status_code != 201:
        assert answer.status_code in (413, 422), answer.text
        return "no model"
    job = http.post("/v1/jobs", json={**asked, "model": answer.json()["id"]})
    assert job.status_code in (202, 422), job.text
    if job.status_code == 202:
        place = job.headers["location"]
        assert http.post(f"{place}:cancel").status_code == 200
        assert http.delete(place).status_code == 204
    assert http.delete(answer.headers["location"]).status_code == 204
    return "a job" if job.status_code == 202 else "no job"


def small_models(directory: Path) -> dict[str, tuple[Path, Arrays]]:
    """Models of the usual kinds, each with inputs."""
    rows = np.random.default_rng(0).standard_normal((8, 5, 8)).astype(np.float32)
    return {
        "residual": (residual_cnn().save(directory / "r.onnx", "logits"), {"image": images(8)}),
        "block": (block_with_norm().save(directory / "b.onnx", "y"), {"x": rows}),
    }


@pytest.mark.parametrize("name", ["residual", "block"])
def test_mutated_models_harm_nobody(shared_live: LiveService, tmp_path: Path, name: str) -> None:
    """Every answer is a success or a problem, and the server goes on."""
    path, inputs = small_models(tmp_path)[name]
    asked, sound = job_for(shared_live.http, inputs, tmp_path), path.read_bytes()
    damaged = mutations(sound, MUTATIONS)
    seen = Counter(fate(shared_live.http, asked, content) for content in damaged)
    assert seen["no model"] > MUTATIONS // 4
    assert seen["a job"] + seen["no job"] > 0, "no look was ever taken at a job"
    assert fate(shared_live.http, asked, sound) == "a job"


def stands_alone(path: Path) -> bytes:
    """A model with its weights in the one file."""
    return bytes(onnx.load(path).SerializeToString())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opset", "dynamo"), EXPORTED)
def test_thousands_of_mutations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, opset: int, dynamo: bool
) -> None:
    """Of models as torch exports them, against a server in a process of its own.

    Whoever asks waits no longer than a look may take: a request that hangs is an error here.
    """
    monkeypatch.setenv("AUTOSPARSE_SERVE_INTAKE", LIMITS.model_dump_json())
    sound = stands_alone(export_model(tmp_path, name, opset, dynamo))
    served = Served(tmp_path, "--no-runner")
    served.start()
    try:
        patience = httpx.Timeout(LIMITS.wall_seconds + GRACE_SECONDS)
        headers = {"Authorization": f"Bearer {served.key}"}
        with (
            httpx.Client(base_url=served.url, headers=headers, timeout=patience) as http,
            ThreadPoolExecutor(2) as pool,
        ):
            asked = job_for(http, inputs_of(name, 8, 7), tmp_path)
            seen = Counter(pool.map(partial(fate, http, asked), mutations(sound, THOUSANDS)))
            assert seen["no model"] > THOUSANDS // 4
            assert seen["a job"] + seen["no job"] > THOUSANDS // 50
            assert fate(http, asked, sound) == "a job"
            assert http.get("/v1/models").json()["items"] == []
        assert served.running.poll() is None
    finally:
        served.stop()
    said = [json.loads(line) for line in (tmp_path / "serve.log").read_text().splitlines()]
    assert {line["level"].lower() for line in said} <= {"info", "warning"}, "an error of the server"
