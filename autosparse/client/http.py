"""Requests to a service, tried again where that may help; its problems become our errors."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from autosparse import errors
from autosparse.client.records import ProblemInfo
from autosparse.errors import AutoSparseError, NotInstalledError, RequestError, ServiceError

try:
    import httpx2 as httpx
except ModuleNotFoundError as missing:
    raise NotInstalledError(
        "the client needs the package 'httpx2', which is not installed",
        hint="pip install 'autosparse[service]'",
    ) from missing

Result = TypeVar("Result")
_PIECE = 1 << 20
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 20.0
_BY_STATUS: Mapping[int, type[RequestError]] = {
    kind.http_status: kind
    for kind in (
        errors.UnauthenticatedError,
        errors.ForbiddenError,
        errors.NotFoundError,
        errors.ConflictError,
        errors.TooLargeError,
        errors.QuotaError,
    )
}


class Transport:
    """One server, and how patient one is with it.

    Args:
        url: where the service listens.
        key: bearer key; None where it asks for none.
        tries: how often a request is sent at most.
        timeout_seconds: how long one may take. The intake of a job is part of its submission.
        sleep: waits between two tries.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        tries: int,
        timeout_seconds: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._tries = tries
        self._sleep = sleep
        self._url = url
        self._http = httpx.Client(
            base_url=url, timeout=timeout_seconds,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
        )  # fmt: skip

    def json(self, method: str, path: str, **parts: Any) -> Any:
        """Send a request whose answer is a document; None where the answer has no body."""

        def once() -> Any:
            answer = self._http.request(method, path, **parts)
            _check(answer)
            return answer.json() if answer.content else None

        return self._patiently(once)

    def pages(self, path: str, asked: Mapping[str, str] | None = None) -> Iterator[Any]:
        """The pages of a list, one request for each."""
        params = dict(asked or {})
        while True:
            page = self.json("GET", path, params=params)
            yield page
            if page.get("next") is None:
                return
            params["after"] = page["next"]

    def upload(self, path: str, name: str, file: IO[bytes]) -> Any:
        """Send a file as the body of a request, in pieces."""

        def once() -> Any:
            # told before, what is too large need not be sent
            headers = {"Content-Length": str(file.seek(0, 2))}
            file.seek(0)
            answer = self._http.post(
                path, params={"name": name}, content=_pieces(file), headers=headers
            )
            _check(answer)
            return answer.json()

        return self._patiently(once)

    def piece(self, path: str, offset: int, content: Iterator[bytes]) -> Any:
        """Send a piece of an upload, once: whoever sends it asks what arrived, and goes on."""
        with self._translated():
            headers = {"Upload-Offset": str(offset)}
            answer = self._http.patch(path, content=content, headers=headers)
            _check(answer)
            return answer.json()

    def download(self, path: str, file: IO[bytes]) -> None:
        """Write the body of an answer to a file; what broke off is gone on with."""

        def once() -> None:
            have = file.seek(0, 2)
            asked = {"Range": f"bytes={have}-"} if have else {}
            with self._http.stream("GET", path, headers=asked) as answer:
                if answer.status_code == 416:
                    return  # it was all there
                _check(answer)
                if answer.status_code != 206:
                    file.seek(0)
                    file.truncate()
                for piece in answer.iter_bytes(_PIECE):
                    file.write(piece)

        self._patiently(once)

    @contextmanager
    def stream(self, path: str, after: int) -> Iterator[Iterator[str]]:
        """Lines of a stream of events behind one, as they come."""
        asked = _behind(after)
        with self._translated(), self._http.stream("GET", path, headers=asked) as answer:
            _check(answer)
            yield answer.iter_lines()

    def streams(self) -> AsyncStreams:
        """Streams of the same service for an event loop."""
        return AsyncStreams(self._url, self._http)

    def wait(self, attempt: int) -> None:
        """Wait before the next try."""
        self._sleep(waited_seconds(attempt))

    def close(self) -> None:
        """Give all connections back."""
        self._http.close()

    def _patiently(self, once: Callable[[], Result]) -> Result:
        attempt = 0
        while True:
            try:
                with self._translated():
                    return once()
            except AutoSparseError as error:
                if not error.retryable or attempt + 1 >= self._tries:
                    raise
            self.wait(attempt)
            attempt += 1

    def _translated(self) -> AbstractContextManager[None]:
        return _translated(self._url)


class AsyncStreams:
    """Streams of events in an event loop.

    Args:
        url: where the service listens.
        like: whose key and patience they have.
    """

    def __init__(self, url: str, like: httpx.Client) -> None:
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, timeout=like.timeout, headers=like.headers)

    @asynccontextmanager
    async def stream(self, path: str, after: int) -> AsyncIterator[AsyncIterator[str]]:
        """Lines of a stream of events behind one, as they come."""
        asked = _behind(after)
        with _translated(self._url):
            async with self._http.stream("GET", path, headers=asked) as answer:
                if not answer.is_success:
                    await answer.aread()
                _check(answer)
                yield answer.aiter_lines()

    async def close(self) -> None:
        """Give all connections back."""
        await self._http.aclose()


def waited_seconds(attempt: int) -> float:
    """Seconds before the next try: longer each time, and not in step with others."""
    longest: float = min(_FIRST_WAIT_SECONDS * 2**attempt, _LONGEST_WAIT_SECONDS)
    return longest * random.uniform(0.5, 1.0)


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """What the library says of a connection, in our words."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ServiceError(
            f"the service at {url} cannot be reached: {error or type(error).__name__}",
            hint="see that `autosparse serve` runs there, or give another --server",
        ) from error


def _behind(after: int) -> dict[str, str]:
    return {"Last-Event-ID": str(after), "Accept": "text/event-stream"}


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _check(answer: httpx.Response) -> None:
    """Raise what a problem document says.

    Raises:
        ServiceError: the server's fault, or one that may pass.
        UserInputError: ours.
    """
    if answer.is_success:
        return
    answer.read()
    try:
        problem = ProblemInfo.model_validate_json(answer.content)
    except ValidationError:
        problem = ProblemInfo(status=answer.status_code, detail=answer.reason_phrase)
    if answer.status_code >= 500 and answer.status_code != 507:
        raise ServiceError(f"the service failed: {problem.detail}", hint=problem.hint)
    kind = _BY_STATUS.get(answer.status_code, _named(problem.type))
    raise kind(problem.detail, hint=problem.hint)


def _named(urn: str) -> type[errors.UserInputError]:
    """The class that a problem's type was made from."""
    name = "".join(word.capitalize() for word in urn.rpartition(":")[2].split("-")) + "Error"
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, errors.UserInputError):
        return found
    return RequestError
