from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autosparse.cli import main
from autosparse.pipeline.config import read_config
from autosparse.pipeline.dry_run import run_dry
from search_spaces import load_space
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.models import Net, images, residual_cnn
from tests.pipeline.worlds import layer_seconds, summed_error

# output elements x window, layer by layer: 8 x 8 images, 4 x 4 after the stride
MACS = {
    "stem": 8 * 64 * 27,
    "block1.a": 8 * 64 * 72,
    "block1.b": 8 * 64 * 72,
    "block2.a": 16 * 16 * 72,
    "block2.b": 16 * 16 * 144,
    "block2.short": 16 * 16 * 8,
    "classifier": 10 * 16,
}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, str]:
    model = residual_cnn().save(tmp_path / "model.onnx", "logits")
    np.savez(tmp_path / "data.npz", image=images(8))
    data = str(tmp_path / "data.npz")
    return {
        "model": str(model), "calibration": data, "validation": data, "latency_budget": "60%",
        "space": "int8", "output_dir": str(tmp_path / "out"),
    }  # fmt: skip


def dry_run(arguments: dict[str, str], *more: str) -> None:
    given = dict(arguments)
    command = ["optimize", given.pop("model"), "--dry-run", *more]
    for name, value in given.items():
        command += ["--" + name.replace("_", "-"), value]
    assert main.run(command) == 0


def test_costs_follow_the_target(arguments: dict[str, str]) -> None:
    backend = FakeBackend(Planted(layer_seconds, summed_error({})))
    dry = run_dry(read_config({**arguments, "batch_size": 3}), backend)
    assert {name: cost.macs for name, cost in dry.costs.items()} == {
        name: 3 * macs for name, macs in MACS.items()
    }
    assert dry.macs == 3 * sum(MACS.values())
    assert dry.parameters == 216 + 2 * 576 + 1152 + 2304 + 128 + 160


def test_the_table_shows_costs_and_their_totals(
    arguments: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    dry_run(arguments)
    out = capsys.readouterr().out
    assert f"7 layers, 5,112 parameters, {sum(MACS.values()):,} MACs" in out
    row = next(line for line in out.splitlines() if "block2.short" in line)
    assert "128" in row
    assert "2,048" in row


def test_the_table_fits_a_narrow_terminal(
    arguments: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    dry_run({**arguments, "space": "cpu"})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    # names, numbers and levels stand unbroken
    levels = [str(level) for level in load_space("cpu").levels]
    for whole in (*MACS, "parameters", "36,864", "7 of 7", *levels):
        assert any(f" {whole} " in line for line in lines), whole


def test_why_a_level_is_not_searched_is_told_once_for_all_layers(
    arguments: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    dry_run(arguments, "--exclude", "block", "--exclude", "stem")
    (row,) = (li for li in capsys.readouterr().out.splitlines() if "dense:int8+gptq" in li)
    assert "1 of 7" in row
    assert "stem: kept at dense:fp32 (and 5 more like this)" in row


def test_json_has_them_too(arguments: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    dry_run(arguments, "--json")
    rows = json.loads(capsys.readouterr().out)
    assert {row["layer"]: row["macs"] for row in rows} == MACS
    stem = [row for row in rows if row["layer"] == "stem"]
    assert {(row["parameters"], row["weight_bytes"]) for row in stem} == {(216, 4 * 216)}


def test_weighted_operators_that_are_no_layers_are_listed(
    arguments: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    dry_run(arguments)
    assert "that are no layers" not in capsys.readouterr().out
    net = Net()
    x = net.input("image", "batch", 4)
    hidden = net.node("MatMul", x, net.weight("fc.weight", 4, 4), name="fc")
    turned = net.node("Transpose", x, perm=[1, 0])
    net.node("MatMul", hidden, turned, name="scores", to="y")
    net.save(Path(arguments["model"]), "y")
    dry_run(arguments)
    out = capsys.readouterr().out
    assert "weighted operators that are no layers" in out
    row = next(line for line in out.splitlines() if "scores" in line)
    assert "its weight is computed at run time" in row
