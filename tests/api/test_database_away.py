"""A database that does not answer for a moment: clients are told to try again, runners go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFreeError

from api import runner
from api.database import Database, why_away
from api.job_ledger import JobLease, take_job
from tests.api.live_service import LiveService
from tests.api.queue_world import RESULT, QueueWorld, trial

GONE = OSError("the connection is closed")
ASKED = ("SELECT secret", None, GONE)
AWAY = {
    "no server": OperationalError(*ASKED),
    "closed": InterfaceError(*ASKED),
    "broken": DBAPIError(*ASKED, connection_invalidated=True),
    "none free": NoConnectionFreeError("QueuePool limit of size 10 overflow 40 reached"),
}
OUR_BUGS = {"integrity": IntegrityError(*ASKED), "asked wrongly": DBAPIError(*ASKED)}


def failing(error: Exception, times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises so many times before it does what it is for."""
    left = [times]

    def flaky(*given: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return real(*given, **named)

    return flaky


def lose(live: LiveService, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Any:
    """Ask a service whose database answers every question with an error."""

    def reading(_: Database) -> NoReturn:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Database, "reading", reading)
        return live.http.get("/v1/jobs")


def test_a_client_is_told_to_try_again(live: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, error in AWAY.items():
        answer = lose(live, monkeypatch, error)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), name
        assert answer.json()["retryable"]
        assert "SELECT" not in answer.text
    for name, error in OUR_BUGS.items():
        answer = lose(live, monkeypatch, error)
        assert (answer.status_code, answer.json()["retryable"]) == (500, False), name
    assert live.http.get("/v1/jobs").status_code == 200


def test_what_was_asked_is_in_no_log() -> None:
    told = [why_away(error) for error in AWAY.values()]
    assert told[0] == told[1] == told[2] == "the connection is closed"
    assert told[3] is not None


def test_no_connection_is_free(live: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are taken for longer than a request waits for one."""
    narrow = create_engine(
        live.service.settings.database_url, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with monkeypatch.context() as patch, narrow.connect():
        patch.setattr(live.service.database, "engine", narrow)
        assert live.http.get("/v1/jobs").status_code == 503
    narrow.dispose()


@pytest.mark.parametrize("error", AWAY.values(), ids=AWAY)
@pytest.mark.parametrize("place", ["while it has nothing to do", "in the middle of a job"])
def test_a_runner_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    for name in ("_AWAY_SECONDS", "_IDLE_SECONDS"):
        monkeypatch.setattr(runner, name, 0.01)
    if place == "in the middle of a job":
        monkeypatch.setattr(JobLease, "trial", failing(error, 1, JobLease.trial))
    else:
        monkeypatch.setattr(runner, "take_job", failing(error, 3, take_job))
    world = QueueWorld(tmp_path / "home")
    job = world.job([trial(1), RESULT])
    with world.running():
        assert world.ended(job) == ["finished"]
    assert world.trials(job) == ["recipe1"]
    again = place == "in the middle of a job"
    assert world.states(job) == ["queued", "running", *(["running"] if again else []), "finished"]
    world.database.close()


@pytest.mark.parametrize("error", OUR_BUGS.values(), ids=OUR_BUGS)
def test_a_bug_of_ours_is_not_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The process ends with it, in the log of whoever started it."""
    monkeypatch.setattr(runner, "take_job", failing(error, 1, take_job))
    world = QueueWorld(tmp_path / "home")
    with pytest.raises(type(error)):
        world.runner().run()
    world.database.close()
