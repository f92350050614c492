"""The application: routes, answers to errors, and the gatekeeper, around one service."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI

from api.gatekeeping import Gatekeeper
from api.problem_answers import PROBLEM_ANSWERS, answer_with_problems
from api.routes import (
    atlases,
    deliveries,
    devices,
    jobs,
    operations,
    pages,
    pending_uploads,
    schedules,
    uploads,
    webhooks,
)
from api.service import Service

_PARTS = (
    uploads, pending_uploads, jobs, atlases, deliveries, devices, schedules, webhooks, operations,
    pages,
)  # fmt: skip
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DESCRIPTION = """\
Give a trained model and a latency budget on a named device; get the most accurate model that
measurably meets it there. Upload a model and its data, submit a job, follow it, fetch the bundle.
Errors are problem details (RFC 9457). Times are seconds since 1970 in UTC.
"""


def create_app(service: Service) -> FastAPI:
    """The HTTP application of a service.

    Args:
        service: settings, database, files and inspector; who makes them, closes them.
    """
    app = FastAPI(
        title="AutoSparse", version=version("autosparse"), description=_DESCRIPTION,
        # the usual pages load scripts from elsewhere; /docs is one of the dashboard's
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.service = service
    answer_with_problems(app)
    for part in _PARTS:
        app.include_router(part.router, responses=PROBLEM_ANSWERS)
    app.add_middleware(
        Gatekeeper,
        most_document_bytes=service.settings.max_document_bytes,
        hosts=() if service.settings.keys else _LOOPBACK_NAMES,
    )
    return app
