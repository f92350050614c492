"""Models and directories that cannot be used, through the command line: exit code 2, a sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.cli.conftest import Complain
from tests.models import Net, classifier


def truncated(path: Path) -> str:
    whole = classifier().model("logits").SerializeToString()
    path.write_bytes(whole[: len(whole) // 2])
    return "is not an ONNX file, or it is truncated"


def without_its_data(path: Path) -> str:
    _with_external_data(path)
    (path.parent / "weights.data").unlink()
    return "external data file 'weights.data' of tensor 'fc1.weight' is missing"


def with_truncated_data(path: Path) -> str:
    _with_external_data(path)
    (path.parent / "weights.data").write_bytes(b"short")
    return "'weights.data' is truncated"


def with_data_elsewhere(path: Path) -> str:
    _with_external_data(path)
    (path.parent / "weights.data").rename(path.parent.parent / "weights.data")
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../weights.data" if entry.key == "location" else entry.value
    path.write_bytes(proto.SerializeToString())
    return "outside"


def without_a_layer(path: Path) -> str:
    net = Net()
    net.node("Relu", net.input("x", "batch", 6), to="logits")
    net.save(path, "logits")
    return "has no compressible layer"


def with_an_unknown_operator(path: Path) -> str:
    model = classifier().model("logits")
    model.graph.node[1].op_type = "Reloo"
    onnx.save(model, str(path))
    return "Reloo"


def of_an_unknown_domain(path: Path) -> str:
    model = classifier().model("logits")
    node = helper.make_node("Magic", ["logits"], ["more"], "magic", domain="com.example")
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, str(path))
    return "com.example::Magic"


def _with_external_data(path: Path) -> None:
    onnx.save(
        classifier().model("logits"), str(path), save_as_external_data=True,
        location="weights.data", size_threshold=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        truncated, without_its_data, with_truncated_data, with_data_elsewhere, without_a_layer,
        with_an_unknown_operator, of_an_unknown_domain,
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_used_is_told(
    job: list[str], complain: Complain, tmp_path: Path, make: object
) -> None:
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    assert callable(make)
    told = make(path)
    assert told in complain([job[0], str(path), *job[2:]])[0]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that even root cannot write to."""
    path = tmp_path / "read_only"
    path.mkdir()
    mounted = _system("mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(path))
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    yield path
    _system("umount", str(path))


def _system(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ["", "out"])
def test_a_directory_that_cannot_be_written_is_told(
    job: list[str], complain: Complain, read_only: Path, name: str
) -> None:
    told = complain([*job[:-1], str(read_only / name)])
    assert "Read-only file system" in told[0]
    assert "--output-dir" in told[1]
