"""Reading a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from autosparse.client.records import EventInfo
from autosparse.errors import ServiceError, first_problem


def read_events(lines: Iterable[str]) -> Iterator[EventInfo]:
    """Events from the lines of a stream; one that breaks off in the middle is not told.

    Raises:
        ServiceError: an event that is none of ours.
    """
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            try:
                yield EventInfo.model_validate_json("\n".join(data))
            except ValidationError as error:
                told = first_problem(error)
                raise ServiceError(f"the service sent an event that is none: {told}") from error
            data = []
