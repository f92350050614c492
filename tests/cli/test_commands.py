"""Commands that end quickly: help, lists, a dry run, a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest

from autosparse.cli.main import COMMANDS, run
from autosparse.methods import METHODS
from autosparse.pipeline.config import JobConfig, Preparation
from autosparse.recovery import RECOVERIES
from autosparse.search.strategies import STRATEGIES
from backends import BACKENDS
from search_spaces import names

Capture = pytest.CaptureFixture[str]
LISTS = {
    "methods": lambda: (*METHODS.names(), *RECOVERIES.names(), *get_args(Preparation)),
    "strategies": STRATEGIES.names,
    "backends": BACKENDS.names,
    "spaces": names,
}


@pytest.fixture
def dry(residual_model: Path) -> list[str]:
    """A dry run needs no data."""
    return [
        "optimize", str(residual_model), "--latency-budget", "60%", "--calibration", "c.npz",
        "--validation", "v.npz", "--dry-run",
    ]  # fmt: skip


def test_help_names_every_command(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(f"    {command}" in out for command in COMMANDS)


def test_the_version_is_told(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"autosparse {version('autosparse')}\n"


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        run([command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: autosparse {command}")
    assert "--json" in out


def test_every_field_of_a_job_is_a_flag_with_its_docstring(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run(["optimize", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for name, field in JobConfig.model_fields.items():
        if name in ("schema_version", "model"):
            continue
        assert f"--{name.replace('_', '-')}" in out
        assert field.description
        assert " ".join(field.description.split())[:40] in out.replace("- ", "-")


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\nfrom autosparse.cli.main import run\ntry:\n    run(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'optuna', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", list(LISTS))
def test_lists_are_json_for_scripts(command: str, capsys: Capture) -> None:
    assert run([command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert tuple(row["name"] for row in rows) == LISTS[command]()
    assert all(row["summary"] for row in rows)


@pytest.mark.parametrize("command", list(LISTS))
def test_lists_are_tables_for_people(command: str, capsys: Capture) -> None:
    assert run([command]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in LISTS[command]())


def test_methods_are_told_with_their_row_in_the_catalogue_and_their_cost(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["methods"]) == 0
    out = capsys.readouterr().out
    columns = ("name", "seed_row", "family", "needs", "cost", "summary")
    heads = [line for line in out.splitlines() if all(column in line for column in columns)]
    assert len(heads) == 3  # levels, recoveries, preparations
    (line,) = (line for line in out.splitlines() if "gblm" in line)
    assert "PR2" in line
    assert "gradient_norms" in line
    (line,) = (line for line in out.splitlines() if "swamp" in line)
    assert "two trainings" in line
    assert run(["methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["smooth"]["kind"] == "preparation"
    assert rows["smooth"]["needs"] == "activations"
    assert len({tuple(row) for row in rows.values()}) == 1  # all have the same fields


def test_a_dry_run_resolves_layers_and_levels(dry: list[str], capsys: Capture) -> None:
    flags = ["--space", "int8", "--exclude", "stem", "--keep", "block2=dense:int8", "--json"]
    assert run([*dry, *flags]) == 0
    rows = json.loads(capsys.readouterr().out)
    searched: dict[str, set[str]] = {}
    for row in rows:
        if row["searched"]:
            searched.setdefault(row["layer"], set()).add(row["level"].partition("+")[0])
        else:
            assert row["reason"]
    both = {"dense:fp32", "dense:int8"}
    assert searched == {
        "stem": {"dense:fp32"},
        "block1.a": both, "block1.b": both, "classifier": both,
        "block2.a": {"dense:int8"}, "block2.b": {"dense:int8"}, "block2.short": {"dense:int8"},
    }  # fmt: skip


@pytest.mark.parametrize("told_by", ["--backend", "--target"])
def test_a_dry_run_tells_every_backend(
    dry: list[str], capsys: Capture, tmp_path: Path, told_by: str
) -> None:
    (tmp_path / "any.yaml").write_text("backend: auto\n")
    open_to_all = {"--backend": "auto", "--target": str(tmp_path / "any.yaml")}[told_by]
    asked = [*dry, "--space", "int8", told_by, open_to_all]
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert tuple(found) == BACKENDS.names()
    assert {row["layer"] for row in found["tvm"]} == {row["layer"] for row in found["onnxruntime"]}
    assert run(asked) == 0
    out = capsys.readouterr().out
    assert [f"On {name}:" in out for name in BACKENDS.names()] == [True, True]


def test_a_dry_run_writes_nothing(
    dry: list[str], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(dry) == 0
    out = capsys.readouterr().out
    assert "7 layers" in out
    assert "block1.a" in out
    assert list(tmp_path.iterdir()) == []


def test_what_is_given_goes_before_the_configuration_file(
    dry: list[str], capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("space: int8\nexclude: [stem]\nmax_drop: 0.01\ninput_shape: {}\n")
    assert run([*dry, "--config", str(path), "--exclude", "block1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    fixed = {row["layer"] for row in rows if row["reason"].endswith("kept at dense:fp32")}
    assert fixed == {"block1.a", "block1.b"}


def test_one_pattern_needs_no_list(dry: list[str], capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    text = "space: int8\nexclude: stem\nkeep: block1=dense:fp32\ninput_shape: image=1,3,8,8\n"
    path.write_text(text)
    assert run([*dry, "--config", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    fixed = {row["layer"] for row in rows if row["reason"].endswith("kept at dense:fp32")}
    assert fixed == {"stem", "block1.a", "block1.b"}


def test_markup_in_names_is_printed_as_it_is(dry: list[str], capsys: Capture) -> None:
    assert run([*dry, "--exclude", "[bold]nothing[/bold]"]) == 2
    assert "[bold]nothing[/bold]" in capsys.readouterr().err


def test_a_benchmark_prints_raw_measurements(residual_model: Path, capsys: Capture) -> None:
    argv = ["benchmark", str(residual_model), str(residual_model), "--rounds", "3", "--json"]
    assert run(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["1: residual.onnx", "2: residual.onnx"]
    for measurement in found.values():
        assert measurement["schema_version"] == 1
        assert all(block["samples_seconds"] for block in measurement["blocks"])
