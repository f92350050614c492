"""Every answer that is no success, as RFC 9457 problem details."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.database import why_away
from api.problem_details import MEDIA_TYPE, ProblemDetails, problem_of
from autosparse.errors import (
    NotFoundError,
    RequestError,
    ServiceError,
    UserInputError,
)

_log = logging.getLogger("autosparse.api")
_KINDS: Mapping[int, type[RequestError]] = {404: NotFoundError, 405: RequestError}

_EXPLAINED = {
    400: "The request itself is no request of this API: no body, or one that is no JSON.",
    401: "The request carries no valid key.",
    403: "The key does not have the scope that is needed.",
    404: "Nothing with this id belongs to the key.",
    409: "Its state does not allow it now.",
    413: "The upload, or what it unpacks to, is over the limit.",
    422: "What was given is wrong: `detail` says what, `hint` what to do.",
    429: "The key has as much as it may have.",
    503: "Out of order for the moment: try again.",
}
_EXAMPLE = ProblemDetails(
    type="urn:autosparse:problem:data", title="Data problem", status=422,
    detail="the calibration file has no array 'image'; it has x",
    hint="the model's input is image: float32 (batch, 3, 32, 32)",
)  # fmt: skip
PROBLEM_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": told,
        "content": {
            MEDIA_TYPE: {
                "schema": ProblemDetails.model_json_schema(),
                **({"example": _EXAMPLE.model_dump(mode="json")} if status == 422 else {}),
            }
        },
    }
    for status, told in _EXPLAINED.items()
}
"""For the API's document: what every route may answer instead."""


def problem_response(error: Exception) -> Response:
    """The answer for an error."""
    problem = problem_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    if problem.status == 503:
        headers["Retry-After"] = "5"
    return _respond(problem, headers)


def answer_with_problems(app: FastAPI) -> None:
    """Install the answers for everything that a route may raise."""
    app.add_exception_handler(UserInputError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> Response:
    return problem_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    details = error.errors() if isinstance(error, RequestValidationError) else []
    first = details[0] if details else {"loc": ("request",), "msg": "invalid"}
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    if "path" in first["loc"]:
        return problem_response(NotFoundError("there is nothing with such an id"))
    problem = problem_of(RequestError(f"{where}: {first['msg']}", hint="see /openapi.json"))
    return _respond(problem.model_copy(update={"status": 422}), {})


async def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind = _KINDS.get(status, RequestError)
    detail = error.detail if isinstance(error, HTTPException) else "the request failed"
    headers = dict(getattr(error, "headers", None) or {})
    if status == 405:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    return _respond(problem_of(kind(str(detail))).model_copy(update={"status": status}), headers)


def _methods_of(request: Request) -> set[str]:
    """What the path can be asked, over all routes; the framework tells those of the first."""
    found: set[str] = set()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _database(request: Request, error: Exception) -> Response:
    away = why_away(error)
    if away is None:
        raise error  # it is answered and logged like any other bug
    _log.error("the database does not answer: %s", away)
    return problem_response(ServiceError("the database does not answer"))


async def _unexpected(request: Request, error: Exception) -> Response:
    # starlette logs it with its traceback when it has been answered
    return problem_response(error)


def _respond(problem: ProblemDetails, headers: Mapping[str, str]) -> Response:
    return JSONResponse(
        problem.model_dump(mode="json"), status_code=problem.status, headers=dict(headers),
        media_type=MEDIA_TYPE,
    )  # fmt: skip
