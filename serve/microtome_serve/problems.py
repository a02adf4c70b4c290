"""Every refusal as a problem document (RFC 9457, `application/problem+json`).

error → what is told of it (`refusals`) → document → response
"""

from __future__ import annotations

import logging
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from microtome.errors import MicrotomeError
from microtome_serve.refusals import MEDIA_TYPE, Problem, problem_of

log = logging.getLogger("microtome.serve")

REQUEST_ID: Final = "X-Request-ID"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route that is asked with a token declares its refusals in the OpenAPI document.

    Args:
        statuses: further ones than those that any such route has.
    """
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({400, 401, 403, 422, 429, 500, 503, 504, *statuses})
    }


SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "A problem document (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "cause", "remedy"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "what is wrong"},
        "cause": {"type": "string", "description": "a stable slug for scripts"},
        "remedy": {"type": "string", "description": "what can be done about it; may be empty"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document, and say so in its OpenAPI document.

    Call it before the middlewares that are to lie outside of it.
    """
    for kind in (MicrotomeError, RequestValidationError, HTTPException, RayError):
        app.add_exception_handler(kind, _answer)
    for kind in (RayServeException, TimeoutError):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(Unexpected)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = SCHEMA
        return document

    app.openapi = openapi  # type: ignore[method-assign]


class Unexpected:
    """The last net: an error nobody foresaw is logged with the request's id, and told as 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            problem = problem_of(error)
            _note(scope, problem, error)
            await problem.response()(scope, receive, send)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error)
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        problem = replace(problem, headers=_allowed(request))
    _note(request.scope, problem, error)
    return problem.response()


def _allowed(request: Request) -> dict[str, str]:
    """All methods of the path; Starlette names those of one of its routes."""
    path = getattr(request.scope.get("route"), "path_format", "")
    methods = request.app.openapi()["paths"].get(path, {})
    return {"Allow": ", ".join(sorted(method.upper() for method in methods))}


def _note(scope: Scope, problem: Problem, error: Exception) -> None:
    """Leave the cause for whoever counts; log what the client isn't told."""
    scope.setdefault("state", {})["cause"] = problem.cause
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        request_id = scope.get("state", {}).get("request_id", "-")
        trace = error if problem.cause == "unexpected" else None
        log.error("request %s: %s: %s", request_id, problem.cause, error, exc_info=trace)
