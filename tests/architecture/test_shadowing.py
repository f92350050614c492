"""Folders of the user's own with our packages' generic names do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.real_job import RealJob

INTRUDERS = ("api", "backends", "search_spaces", "workers")
CONSOLE_SCRIPT = str(Path(sys.executable).with_name("autosparse"))


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    for name in INTRUDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    return tmp_path


def test_the_console_script_does_not_see_them(crowded: Path) -> None:
    done = subprocess.run(
        [CONSOLE_SCRIPT, "backends", "--json"], cwd=crowded, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == ["onnxruntime", "tvm"]


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_an_import_that_they_shadow_names_the_intruder(tmp_path: Path, intruder: str) -> None:
    (tmp_path / intruder).mkdir()
    (tmp_path / intruder / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "import autosparse; autosparse.optimize"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"the package {intruder!r} of autosparse is shadowed by {tmp_path / intruder}" in (
        done.stderr
    )


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_python_dash_m_exits_with_a_sentence(tmp_path: Path, intruder: str) -> None:
    (tmp_path / intruder).mkdir()
    (tmp_path / intruder / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "autosparse", "backends"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "shadowed by" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo_runs_among_them(crowded: Path) -> None:
    done = subprocess.run([CONSOLE_SCRIPT, "demo"], cwd=crowded, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (crowded / "autosparse-demo" / "result" / "bundle" / "manifest.json").is_file()


@pytest.mark.slow
def test_workers_do_not_see_them(crowded: Path) -> None:
    job = RealJob.make(crowded)
    done = job.run("--workers", "2")
    assert done.returncode == 0, done.stderr
    assert (job.output / "bundle" / "manifest.json").is_file()
