"""What the API's document promises, held against what the server does, by schemathesis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from api.app import create_app
from api.inspection import Inspector
from tests.api.live_service import LiveService, listening, live_service

schemathesis = pytest.importorskip("schemathesis", reason="it is in the extra `dev`")
# What a budget, an id, a regular expression or a file must be, a schema cannot say: that is
# refused with 422, and its own tests ask for it.
EXCLUDED = "positive_data_acceptance"
QUICK = settings(
    max_examples=2, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inspector: Inspector) -> Iterator[LiveService]:
    with live_service(tmp_path_factory.mktemp("fuzzed") / "home", inspector) as live:
        yield live


def test_the_document_holds(shared: LiveService) -> None:
    """A few requests of every operation; the answers are those that it promises."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(shared.service))
    headers = {"Authorization": f"Bearer {shared.key}"}
    excluded = [getattr(schemathesis.checks, EXCLUDED)]
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @QUICK
        @given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(headers=headers, excluded_checks=excluded)

        holds()
    assert tried >= 50


@pytest.mark.slow
def test_schemathesis_runs_clean(shared: LiveService, tmp_path: Path) -> None:
    """The program itself, with all its phases: edges of every parameter, fuzzing, sequences."""
    with listening(shared.service) as url:
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
             "-H", f"Authorization: Bearer {shared.key}", "--exclude-checks", EXCLUDED,
             "--max-examples", "20", "--seed", "1"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
