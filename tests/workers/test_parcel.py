"""What a request names arrives whole on a machine that sees none of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from autosparse.errors import RequestError
from autosparse.evaluation import LoweredModel, Target, TimingSettings
from tests.models import images, residual_cnn
from workers.messages import FileToOpen, MeasureRequest, ProfileRequest
from workers.parcel import Parcel, check_names, contents, on_device

TARGET = Target(input_shapes={"image": (2, 3, 8, 8)})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model with external data and a library, and things that are nobody's business."""
    directory = tmp_path / "source"
    directory.mkdir()
    model = onnx.load(str(residual_cnn().save(directory / "plain.onnx", "logits")))
    onnx.save_model(
        model, str(directory / "model.onnx"), save_as_external_data=True, location="model.data",
        size_threshold=0,
    )  # fmt: skip
    (directory / "kernels").mkdir()
    (directory / "kernels" / "lib.so").write_bytes(b"library")
    (directory / "secret.txt").write_text("nobody's business")
    np.savez(directory / "inputs.npz", image=images(2))
    return directory


def request(source: Path) -> MeasureRequest:
    model = LoweredModel(source, "model.onnx", library="kernels/lib.so")
    plain = LoweredModel(source, "plain.onnx")
    return MeasureRequest(
        files={"../escape": FileToOpen.of(model), "baseline": FileToOpen.of(plain)},
        inputs=source / "inputs.npz", target=TARGET, settings=TimingSettings(),
    )  # fmt: skip


def test_files_external_data_and_library_arrive(source: Path, tmp_path: Path) -> None:
    asked = request(source)
    parcel = Parcel.of(asked)
    there = tmp_path / "there"
    there.mkdir()
    moved = parcel.unpack(asked, there)
    assert isinstance(moved, MeasureRequest)
    assert (moved.target, moved.settings) == (asked.target, asked.settings)
    for label, file in moved.files.items():
        before = asked.files[label].to_model()
        assert file.to_model().sha256() == before.sha256()
        assert file.directory.is_relative_to(there)
        onnx.checker.check_model(str(file.to_model().path))
    library = moved.files["../escape"].to_model().library_path
    assert library is not None
    assert library.read_bytes() == b"library"
    assert moved.inputs.read_bytes() == asked.inputs.read_bytes()


def test_nothing_else_is_sent(source: Path) -> None:
    parcel = Parcel.of(request(source))
    first = {"0/model.onnx", "0/model.data", "0/kernels/lib.so"}
    assert set(parcel.files) == {"inputs.npz", *first, "1/plain.onnx"}


def test_an_artifact_of_another_kind_travels_with_its_directory(
    source: Path, tmp_path: Path
) -> None:
    """One that names no library names no files: what was lowered with it lies beside it."""
    directory = tmp_path / "compiled"
    (directory / "data").mkdir(parents=True)
    (directory / "model.so").write_bytes(b"code")
    (directory / "data" / "weights.bin").write_bytes(b"weights")
    model = FileToOpen.of(LoweredModel(directory, "model.so"))
    asked = ProfileRequest(file=model, inputs=source / "inputs.npz", target=TARGET, runs=3)
    assert set(contents(asked)) == {"inputs.npz", "0/model.so", "0/data/weights.bin"}


def test_of_a_compiled_model_in_its_bundle_two_files_are_sent(source: Path, tmp_path: Path) -> None:
    """`verify` opens what was delivered where it lies, beside what tells of the job."""
    bundle = tmp_path / "bundle"
    (bundle / "kernels" / "aarch64").mkdir(parents=True)
    for name in ("model.params", "model.so", "kernels/aarch64/model.so", "manifest.json",
                 "report.html", "run_model.py"):  # fmt: skip
        (bundle / name).write_bytes(name.encode())
    model = FileToOpen.of(LoweredModel(bundle, "model.params", library="model.so"))
    asked = ProfileRequest(file=model, inputs=source / "inputs.npz", target=TARGET, runs=3)
    assert set(contents(asked)) == {"inputs.npz", "0/model.params", "0/model.so"}
    there = model.model_copy(update={"device_library": "kernels/aarch64/model.so"})
    sent = on_device(asked.model_copy(update={"file": there}))
    assert set(contents(sent)) == {"inputs.npz", "0/model.params", "0/kernels/aarch64/model.so"}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "0/../../up", "0//twice", "a\\b", "", ".", "0/nul\0"]
)
def test_names_that_leave_the_parcel_are_refused(source: Path, name: str) -> None:
    asked = request(source)
    check_names(asked, contents(asked).keys())
    with pytest.raises(RequestError, match="of the name"):
        check_names(asked, [*contents(asked), name])


@pytest.mark.parametrize("field", ["entry", "library"])
def test_what_the_request_names_must_be_in_the_parcel(source: Path, field: str) -> None:
    asked = request(source)
    file = asked.files["baseline"].model_copy(update={field: "../../bin/sh"})
    hostile = asked.model_copy(update={"files": {**asked.files, "baseline": file}})
    with pytest.raises(RequestError, match="not in its parcel"):
        check_names(hostile, contents(asked).keys())


def test_a_profile_travels_alike(source: Path, tmp_path: Path) -> None:
    model = FileToOpen.of(LoweredModel(source, "plain.onnx"))
    asked = ProfileRequest(file=model, inputs=source / "inputs.npz", target=TARGET, runs=3)
    moved = Parcel.of(asked).unpack(asked, tmp_path)
    assert isinstance(moved, ProfileRequest)
    assert moved.runs == 3
    assert moved.file.to_model().sha256() == model.to_model().sha256()
