"""A database with jobs and runners whose job processes play scripts."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from api.database import Database, new_id
from api.file_store import file_store
from api.job_ledger import add_event
from api.keys import make_key
from api.runner import Runner
from api.settings import ServerSettings
from api.tables import EventRow, JobRow, TrialRow
from autosparse.client.records import ENDED

COMMAND = (sys.executable, "-S", str(Path(__file__).with_name("scripted_job.py")))
PATIENCE_SECONDS = 60.0
CONFIG = {
    "model": "m.onnx", "calibration": "c.npz", "validation": "v.npz", "latency_budget": "60%",
}  # fmt: skip
SAMPLE = Path(__file__).parents[1] / "compat" / "samples" / "TrialRecord.v1.json"


def record(number: int) -> dict[str, Any]:
    """A trial's record, told apart by its recipe's id."""
    sample: dict[str, Any] = json.loads(SAMPLE.read_text())
    sample["evidence"]["recipe_id"] = f"recipe{number}"
    return sample


def trial(number: int) -> dict[str, Any]:
    """What a job's process says of a finished trial."""
    return {"kind": "trial", "record": record(number), "best": f"recipe{number}"}


RESULT = {"kind": "result", "verdict": "met", "manifest": {"product": "a test's"}}


class QueueWorld:
    """Jobs, runners, and what can be seen of them."""

    def __init__(self, home: Path, url: str = "", **settings: Any) -> None:
        given = {"lease_seconds": 30.0, "device": "bench", **settings}
        home.mkdir(exist_ok=True)
        self.settings = ServerSettings.model_validate({"home": home, "database": url, **given})
        self.database = Database(self.settings.database_url)
        self.database.upgrade()
        self.files = file_store(self.settings)
        self.owner = make_key(self.database, "owner", ("read",)).id

    def job(self, *attempts: list[Any], priority: int = 0) -> str:
        """A waiting job that plays a script."""
        id_ = new_id("job")
        directory = self.files.job(id_)
        directory.mkdir()
        (directory / "script.json").write_text(json.dumps(attempts))
        row = JobRow(
            id=id_, owner=self.owner, name="", idempotency_key=None, request_digest="",
            state="queued", request={}, config=CONFIG, priority=priority, created=time.time(),
            started=None, finished=None, attempts=0, cancel_requested=False, runner=None,
            lease_until=None, events=0, progress=None, best_recipe=None, verdict=None,
            problem=None, manifest=None,
        )  # fmt: skip
        with self.database.writing() as session:
            session.add(row)
            session.flush()
            add_event(session, row, "state", {"state": "queued"})
        return id_

    def runner(self, **settings: Any) -> Runner:
        """A runner that plays scripts."""
        chosen = self.settings.model_copy(update=settings)
        return Runner(chosen, self.database, self.files, COMMAND)

    @contextmanager
    def running(self, *runners: Runner) -> Iterator[None]:
        """Let runners work meanwhile."""
        chosen = runners or (self.runner(),)
        threads = [threading.Thread(target=runner.run) for runner in chosen]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for runner in chosen:
                runner.stop()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)

    def row(self, id_: str) -> JobRow:
        """A job as it is stored."""
        with self.database.reading() as session:
            found = session.get(JobRow, id_)
        assert found is not None
        return found

    def change(self, id_: str, **values: Any) -> None:
        """Change a job's row."""
        with self.database.writing() as session:
            row = session.get(JobRow, id_)
            for name, value in values.items():
                setattr(row, name, value)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def ended(self, *ids: str) -> list[str]:
        """Wait until jobs have ended; their states."""
        self.until(lambda: all(self.row(id_).state in ENDED for id_ in ids))
        return [self.row(id_).state for id_ in ids]

    def events(self, id_: str) -> list[EventRow]:
        """A job's events."""
        with self.database.reading() as session:
            mine = select(EventRow).where(EventRow.job == id_).order_by(EventRow.sequence)
            return list(session.scalars(mine))

    def states(self, id_: str) -> list[str]:
        """The states that a job went through."""
        return [event.data["state"] for event in self.events(id_) if event.kind == "state"]

    def trials(self, id_: str) -> list[str]:
        """Recipes of a job's trials, in order."""
        with self.database.reading() as session:
            mine = select(TrialRow).where(TrialRow.job == id_).order_by(TrialRow.number)
            return [row.recipe for row in session.scalars(mine)]
