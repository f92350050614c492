"""What a hostile client sends: never a crash, never a hang, never a file outside."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from api.inspection import Inspector
from api.settings import IntakeLimits
from tests.api.live_service import LIMITS, LiveService, live_service


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inspector: Inspector) -> Iterator[LiveService]:
    home = tmp_path_factory.mktemp("attacked") / "home"
    with live_service(home, inspector, max_model_bytes=8 << 20, max_dataset_bytes=8 << 20) as live:
        yield live


NAMES = [
    "../../escaped", "..", "/etc/passwd", "a/../../b", "a\\..\\b", "%2e%2e%2fpasswd", "\x00",
    "con:", "x" * 300, "\u202egnp.exe", ".hidden", "-rf", "ab\ncd", "a//b", "./x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_member_of_a_zip_leaves_its_directory(
    shared: LiveService, residual_model: Path, name: str
) -> None:
    root = shared.service.files.root
    before = files_below(root.parent)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m.onnx", residual_model.read_bytes())
        archive.writestr(zipfile.ZipInfo(name), b"escaped")
    answer = shared.upload("models", buffer.getvalue())
    # what the zip format itself makes harmless is allowed, and is then below the model
    assert answer.status_code in (201, 422), answer.text
    new = files_below(root.parent) - before
    assert all(path.is_relative_to(root) for path in new)
    if answer.status_code == 201:
        assert shared.http.delete(answer.headers["location"]).status_code == 204
    assert files_below(root.parent) - before == set()


def test_a_link_in_a_zip_is_refused(shared: LiveService, residual_model: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m.onnx", residual_model.read_bytes())
        link = zipfile.ZipInfo("weights.bin")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    answer = shared.upload("models", buffer.getvalue())
    assert answer.status_code == 422
    assert "no plain file" in answer.json()["detail"]


@pytest.mark.parametrize("location", ["../../../etc/passwd", "/etc/passwd", "..", "", "a\x00b"])
def test_external_data_cannot_leave_the_model(
    shared: LiveService, residual_model: Path, location: str
) -> None:
    model = onnx.load(residual_model)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    answer = shared.upload("models", model.SerializeToString())
    assert answer.status_code == 422
    assert "root:" not in answer.text


def bomb(name: str, size: int) -> bytes:
    """Zeros that pack a thousand times smaller."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "name"), [("models", "m.onnx"), ("datasets", "image.npy")])
def test_a_zip_bomb_is_too_large(shared: LiveService, kind: str, name: str) -> None:
    answer = shared.upload(kind, bomb(name, 64 << 20))
    assert answer.status_code == 413
    assert not list((shared.service.files.root / "incoming").iterdir())


def test_a_zip_that_lies_about_its_size_is_no_way_around(shared: LiveService) -> None:
    content = bytearray(bomb("m.onnx", 64 << 20))
    # the size in the central directory is what is believed first
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 100)
    answer = shared.upload("models", bytes(content))
    assert answer.status_code in (413, 422)
    assert not list((shared.service.files.root / "incoming").iterdir())


def test_an_array_that_claims_to_be_huge(shared: LiveService) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(header, shape)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(64))
    answer = shared.upload("datasets", buffer.getvalue())
    assert answer.status_code == 422
    assert "not whole" in answer.json()["detail"]


def test_a_pickle_is_not_opened(shared: LiveService, tmp_path: Path) -> None:
    """A dataset that would run code where it is unpickled."""
    marker = tmp_path / "ran"
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    header = io.BytesIO()
    shape = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(header, shape)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.npy", header.getvalue() + payload)
    for content in (buffer.getvalue(), payload):
        assert shared.upload("datasets", content).status_code == 422
    assert not marker.exists()


def hostile_models() -> dict[str, onnx.ModelProto]:
    """Models that are valid protobuf, and ask for more than anyone has."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    huge = helper.make_tensor("shape", TensorProto.INT64, [3], [1 << 14, 1 << 14, 1 << 14])
    expand = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"])], "g", [], [value], [huge]
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    cycle = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
        "g", [x], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )  # fmt: skip
    many = helper.make_graph(
        [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(100_000)],
        "g", [helper.make_tensor_value_info("t0", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("t100000", TensorProto.FLOAT, None)],
    )  # fmt: skip
    made = {
        name: helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        for name, graph in (("huge", expand), ("cycle", cycle), ("many", many))
    }
    recursive = onnx.ModelProto()
    recursive.CopyFrom(made["cycle"])
    recursive.graph.ClearField("node")
    recursive.graph.node.append(helper.make_node("f", ["x"], ["b"], domain="own"))
    recursive.opset_import.append(helper.make_opsetid("own", 1))
    recursive.functions.append(
        helper.make_function(
            "own", "f", ["p"], ["q"], [helper.make_node("f", ["p"], ["q"], domain="own")],
            [helper.make_opsetid("own", 1)],
        )
    )  # fmt: skip
    made["recursive"] = recursive
    for model in made.values():
        model.ir_version = 9
    return made


@pytest.mark.parametrize("name", ["huge", "cycle", "many", "recursive"])
def test_a_model_that_asks_too_much_is_refused(shared: LiveService, name: str) -> None:
    answer = shared.upload("models", hostile_models()[name].SerializeToString())
    assert answer.status_code in (413, 422), answer.text
    assert name != "many" or "nodes" in answer.json()["detail"], "counted, not worked through"
    assert shared.http.get("/healthz").status_code == 200


IDS = [
    "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "job_x%2f..%2f..%2fkeys", "job_" + "a" * 1000,
    "'", "\\", "job_%00", "mdl_*", "job_AAAAAAAAAAAAAAAAAAAAAA", "JOB_x",
]  # fmt: skip


@pytest.mark.parametrize("id_", IDS)
@pytest.mark.parametrize(
    "path",
    ["/v1/models/{}", "/v1/datasets/{}", "/v1/targets/{}", "/v1/jobs/{}", "/v1/jobs/{}/logs",
     "/v1/jobs/{}/artifacts", "/v1/jobs/{}/artifacts/manifest.json", "/v1/jobs/{}/events"],
)  # fmt: skip
def test_no_id_is_a_path(shared: LiveService, path: str, id_: str) -> None:
    answer = shared.http.get(path.format(id_))
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("kind", ["models", "datasets"])
@pytest.mark.parametrize("name", ["../../x", "/abs", "a\x00b", "\n", "n" * 1000, "ok name.onnx"])
def test_a_name_is_only_a_name(
    shared: LiveService, classifier_model: Path, kind: str, name: str
) -> None:
    root = shared.service.files.root
    before = files_below(root.parent)
    content = classifier_model.read_bytes()
    answer = shared.http.post(f"/v1/{kind}", params={"name": name}, content=content)
    assert answer.status_code in (201, 422)
    assert all(path.is_relative_to(root) for path in files_below(root.parent) - before)


def test_too_much_memory_ends_the_look_and_not_the_server(tmp_path: Path) -> None:
    """A constant that folds to half a gigabyte, where a tenth is allowed."""
    limits = IntakeLimits.model_validate({**LIMITS.model_dump(), "memory_bytes": 64 << 20})
    inspector = Inspector(limits, tmp_path / "log.txt", slots=1)
    try:
        with live_service(tmp_path / "home", inspector) as live:
            answer = live.upload("models", large_model())
            assert answer.status_code == 422, answer.text
            assert live.http.get("/healthz").status_code == 200
            assert live.upload("models", b"no model").status_code == 422
    finally:
        inspector.close()


def large_model() -> bytes:
    """A file of a few bytes that takes 400 MB when it is read."""
    size = 10_000
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [size, size])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", size])], [shape],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def test_headers_of_every_kind(shared: LiveService) -> None:
    odd: list[dict[str, Any]] = [
        {"Content-Length": "-1"}, {"Last-Event-ID": "x"}, {"Idempotency-Key": "k" * 5000},
        {"Authorization": "Bearer " + "x" * 60_000}, {"Range": "bytes=9-1"},
    ]  # fmt: skip
    for headers in odd:
        answer = shared.http.get("/v1/jobs/job_AAAAAAAAAAAAAAAAAAAAAA/events", headers=headers)
        assert 400 <= answer.status_code < 500
