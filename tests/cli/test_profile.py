"""`autosparse profile` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autosparse.artifacts.atlas_data import AtlasData
from autosparse.cli.main import run
from autosparse.cli.profile import _print_atlas
from autosparse.pipeline.atlas import run_atlas
from autosparse.pipeline.config import read_profile_config
from tests.cli.conftest import Complain
from tests.pipeline.sparse_world import SparseWorld


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--threads", "0"], "--threads: Input should be greater than or equal to 1"),
        (["--input-shape", "image=1,2"], "does not fit"),
        (["--target", "gone.yaml"], "cannot read the target gone.yaml"),
        (["--backend", "onnx"], "no backend is called 'onnx'"),
        (["--calibration", "gone.npz"], "there is no calibration file gone.npz"),
        (["--levels", "2:4:int8"], "--levels belongs to the atlas"),
        (["--atlas", "--levels", "often"], "'often' is no level"),
        (["--atlas", "--levels", "dense:int8"], "dense:int8 has no zeros"),
    ],
)
def test_what_is_wrong_is_told(
    residual_model: Path, complain: Complain, flags: list[str], told: str
) -> None:
    assert told in complain(["profile", str(residual_model), *flags])[0]


@pytest.mark.parametrize("content", [None, b"", b"some text"])
def test_a_wrong_model_is_told(complain: Complain, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.onnx"
    if content is not None:
        path.write_bytes(content)
    assert complain(["profile", str(path), "--atlas"])[0]
    assert "no model is given" in complain(["profile"])[0]


def test_an_atlas_in_place_of_a_file_is_told(
    residual_model: Path, complain: Complain, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    flags = ["--atlas", "--output-dir", str(tmp_path / "taken")]
    assert "cannot write" in complain(["profile", str(residual_model), *flags])[0]


def test_an_optimization_asks_for_an_atlas_that_is_there(
    job: list[str], complain: Complain, tmp_path: Path
) -> None:
    error, hint = complain([*job, "--max-drop", "50pt", "--atlas", str(tmp_path / "gone")])
    assert "there is no atlas in" in error
    assert "autosparse profile MODEL --atlas" in hint


def test_a_profile_divides_the_latency(
    residual_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", str(residual_model), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    every = [*told["layers"], *told["rest"]]
    assert sum(one["seconds"] or 0.0 for one in every) == pytest.approx(told["seconds"])
    assert len(told["layers"]) == 7
    assert all(layer["kernel"] for layer in told["layers"])


def planted_atlas(root: Path) -> AtlasData:
    world = SparseWorld.make(root)
    world.backend.refused = {"2:8:int8", "4:8:int8"}
    return run_atlas(world.atlas_config(), world.engines)


def test_the_table_fits_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    config = read_profile_config({"model": tmp_path / "m.onnx", "atlas": True})
    _print_atlas(planted_atlas(tmp_path / "world"), config, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("  not measured"))
    assert all(len(line) <= 80 for line in lines[:end])
    text = "\n".join(lines)
    assert "75%" in text
    assert "always" in text
    assert "never" in text
    assert "refused by plan (and 3 more like this)" in text
    assert "Sparsity pays for 2 of" in text


def test_the_json_tells_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = planted_atlas(tmp_path / "world")
    config = read_profile_config({"model": tmp_path / "m.onnx", "atlas": True})
    _print_atlas(data, config, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told.pop("summary").startswith("Sparsity pays")
    assert AtlasData.model_validate(told) == data
