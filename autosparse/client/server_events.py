"""Reading a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from autosparse.client.records import EventInfo
from autosparse.errors import ServiceError, first_problem


class EventReader:
    """Makes events of the lines of a stream; one that breaks off in the middle is not told."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def read(self, line: str) -> EventInfo | None:
        """The event that ends with a line, if one does.

        Raises:
            ServiceError: an event that is none of ours.
        """
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        if line or not self._data:
            return None
        data, self._data = "\n".join(self._data), []
        try:
            return EventInfo.model_validate_json(data)
        except ValidationError as error:
            told = first_problem(error)
            raise ServiceError(f"the service sent an event that is none: {told}") from error


def read_events(lines: Iterable[str]) -> Iterator[EventInfo]:
    """Events from the lines of a stream.

    Raises:
        ServiceError: as for `EventReader.read`.
    """
    reader = EventReader()
    for line in lines:
        event = reader.read(line)
        if event is not None:
            yield event
