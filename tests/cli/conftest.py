"""A command line that would start, and what one says that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from api.inspection import Inspector
from autosparse.cli.main import run
from autosparse.client.client import KEY_VARIABLE, URL_VARIABLE
from tests.api.live_service import LIMITS, LiveService, listening, live_service
from tests.models import images

Complain = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def job(residual_model: Path, tmp_path: Path) -> list[str]:
    """A job that would start: files and a budget."""
    labels = np.arange(8) % 10
    np.savez(tmp_path / "calibration.npz", image=images(8))
    np.savez(tmp_path / "validation.npz", image=images(8), labels=labels)
    return [
        "optimize", str(residual_model), "--latency-budget", "60%",
        "--calibration", str(tmp_path / "calibration.npz"),
        "--validation", str(tmp_path / "validation.npz"),
        "--output-dir", str(tmp_path / "out"),
    ]  # fmt: skip


@pytest.fixture
def complain(capsys: pytest.CaptureFixture[str]) -> Complain:
    """Run a command that fails: the sentence, and the hint if there is one."""

    def check(argv: Sequence[str]) -> list[str]:
        assert run(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        lines = err.splitlines()
        (start,) = (n for n, line in enumerate(lines) if line.startswith("error: "))
        assert len(lines) - start <= 2
        assert all(line.startswith("  -> ") for line in lines[start + 1 :])
        return lines[start:]

    return check


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveService]:
    """A service that the environment names. Nothing is uploaded to it."""
    inspector = Inspector(LIMITS, tmp_path / "inspector.log", slots=1)
    with live_service(tmp_path / "home", inspector) as made, listening(made.service) as url:
        monkeypatch.setenv(URL_VARIABLE, url)
        monkeypatch.setenv(KEY_VARIABLE, made.key)
        yield made
