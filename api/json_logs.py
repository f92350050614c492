"""The server's log: one JSON document a line, with the ids of what each line is about."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any


def about(**ids: Any) -> dict[str, Any]:
    """What a line is about, as its fields: `_log.info("begins", extra=about(job=job.id))`."""
    return {"about": ids}


class JsonLines(logging.Formatter):
    """Writes a line as a document: `at`, `level`, `logger`, `message`, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        at = datetime.fromtimestamp(record.created, UTC)
        document = {
            "at": at.isoformat(timespec="milliseconds"), "level": record.levelname.lower(),
            "logger": record.name, "message": record.getMessage(),
            **getattr(record, "about", {}),
        }  # fmt: skip
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def log_json_lines() -> None:
    """Let everything that this process logs be such lines, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
