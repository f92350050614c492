"""Errors as RFC 9457 problem details: one table for all of them, read off the error tree."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from autosparse.errors import AutoSparseError

MEDIA_TYPE = "application/problem+json"
_CAMEL = re.compile(r"(?<!^)(?=[A-Z])")
_OUR_BUG = AutoSparseError.exit_code


class ProblemDetails(BaseModel):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: str
    """Stable name of the kind of problem: `urn:autosparse:problem:model`."""
    title: str
    """The kind of problem in words; the same for every occurrence."""
    status: int
    """HTTP status."""
    detail: str
    """What is wrong this time."""
    hint: str = ""
    """What to do about it."""
    retryable: bool = False
    """Whether the same request may succeed later."""


def problem_of(error: Exception) -> ProblemDetails:
    """Describe an error to a client.

    An error that is not of our tree, or is our own bug, tells nothing of the server's inside.
    """
    if not isinstance(error, AutoSparseError) or type(error).exit_code == _OUR_BUG:
        retryable = isinstance(error, AutoSparseError) and error.retryable
        status = error.http_status if isinstance(error, AutoSparseError) else 500
        return ProblemDetails(
            type=_urn("InternalError"),
            title=_title("InternalError"),
            status=status,
            detail="an internal error occurred",
            retryable=retryable,
        )
    kind = type(error).__name__
    return ProblemDetails(
        type=_urn(kind),
        title=_title(kind),
        status=error.http_status,
        detail=_sendable(error.message),
        hint=_sendable(error.hint),
        retryable=error.retryable,
    )


def _sendable(text: str) -> str:
    """A sentence may quote what was sent, and JSON can spell half a character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _words(kind: str) -> list[str]:
    return [word.lower() for word in _CAMEL.split(kind.removesuffix("Error"))]


def _urn(kind: str) -> str:
    return "urn:autosparse:problem:" + "-".join(_words(kind))


def _title(kind: str) -> str:
    return " ".join(_words(kind)).capitalize() + " problem"
