"""What a client is told of each error: a status, and a problem document (RFC 9457).

What a client did wrong is told in the error's own words. What is wrong on this side is told in
words that stand here, for the error's may name files, buckets or hosts; the log has them, beside
the request's id. The unknown and the hidden have one text, which names no id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from starlette.exceptions import HTTPException

from microtome.errors import (
    AccessUnavailable,
    AtlasError,
    DeadlinePassed,
    MicrotomeError,
    ModelError,
    ModelMismatch,
    NotAllowed,
    Overloaded,
    ProcessLost,
    QueryError,
    RateExceeded,
    RequestError,
    RequestTooLarge,
    RequestTooSlow,
    SettingError,
    SlideChanged,
    SlideError,
    SlideUnknown,
    SourceError,
    TileNotFound,
    TokenRefused,
)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """How one type of error is told.

    Attributes:
        status: of the response.
        detail: what is told instead of the error's own words; None tells those.
        remedy: goes with `detail`.
        retry: whether the same request may well succeed soon.
    """

    status: HTTPStatus
    detail: str | None = None
    remedy: str = ""
    retry: bool = False


_LATER: Final = "Ask again shortly; if it stays so, tell whoever runs this server."
_TELL: Final = "Tell whoever runs this server, with the request's id."

KINDS: Final[Mapping[type[Exception], Kind]] = {
    QueryError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY),
    SettingError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY),
    ModelMismatch: Kind(HTTPStatus.UNPROCESSABLE_ENTITY),
    TileNotFound: Kind(HTTPStatus.NOT_FOUND, "the atlas holds no such tile"),
    SlideUnknown: Kind(HTTPStatus.NOT_FOUND, "the atlas holds no such slide or case"),
    RequestError: Kind(HTTPStatus.BAD_REQUEST),
    TokenRefused: Kind(HTTPStatus.UNAUTHORIZED),
    NotAllowed: Kind(HTTPStatus.FORBIDDEN),
    Overloaded: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the server has more to do than it can",
        "Ask again shortly.",
        retry=True,
    ),
    RateExceeded: Kind(HTTPStatus.TOO_MANY_REQUESTS, retry=True),
    RequestTooLarge: Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    RequestTooSlow: Kind(HTTPStatus.REQUEST_TIMEOUT),
    AccessUnavailable: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "who may ask can't be looked up now", _TELL, retry=True
    ),
    ProcessLost: Kind(
        HTTPStatus.INTERNAL_SERVER_ERROR, "processes of the server ended over this request", _TELL
    ),
    DeadlinePassed: Kind(HTTPStatus.GATEWAY_TIMEOUT, retry=True),
    AtlasError: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "the atlas can't be read now", _LATER, retry=True
    ),
    ModelError: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "the model can't be used now", _LATER, retry=True
    ),
    SlideChanged: Kind(HTTPStatus.GONE, "the slide's file isn't the one that was indexed", _TELL),
    SlideError: Kind(HTTPStatus.BAD_GATEWAY, "the slide can't be read where it lies", _TELL),
    SourceError: Kind(HTTPStatus.BAD_GATEWAY, "the slide isn't where it was indexed", _TELL),
    MicrotomeError: Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed", _TELL),
}
"""The nearest ancestor of an error's type decides."""

UNEXPECTED: Final = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed", _TELL)
UNAVAILABLE: Final = Kind(
    HTTPStatus.SERVICE_UNAVAILABLE, "a part of the server isn't there now", _LATER, retry=True
)
_LATE: Final = DeadlinePassed(
    "the answer wasn't ready in time", remedy="Ask for less, or again later."
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal.

    Attributes:
        status: HTTP status.
        cause: stable slug for scripts, as in the command line's JSON.
        detail: what is wrong with this request.
        remedy: what can be done about it; may be empty.
        errors: where in the request it is wrong: names of fields and what they lack.
        headers: that go with it.
    """

    status: int
    cause: str
    detail: str
    remedy: str = ""
    errors: tuple[Mapping[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document; `type` is a name, not an address."""
        facts = {
            "type": f"urn:microtome:problem:{self.cause}",
            "title": self.cause.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "cause": self.cause,
            "remedy": self.remedy,
        }
        return facts | ({"errors": list(self.errors)} if self.errors else {})

    def response(self) -> JSONResponse:
        """The document with its status and headers."""
        return JSONResponse(
            self.to_json(), self.status, headers=dict(self.headers), media_type=MEDIA_TYPE
        )


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error, which may have crossed Ray."""
    error = unwrapped(error)
    for kind, tell in _TELLERS:
        if isinstance(error, kind):
            return tell(error)
    return _of_kind(UNEXPECTED, "unexpected")


def unwrapped(error: BaseException) -> BaseException:
    """The error that was raised where the work was done."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def _ours(error: MicrotomeError) -> Problem:
    kind = next(KINDS[base] for base in type(error).__mro__ if base in KINDS)
    problem = _of_kind(kind, error.cause, error)
    if isinstance(error, TokenRefused):
        return _with(problem, {"WWW-Authenticate": 'Bearer realm="microtome"'})
    if isinstance(error, NotAllowed):
        insufficient = 'Bearer realm="microtome", error="insufficient_scope"'
        return _with(problem, {"WWW-Authenticate": insufficient})
    if isinstance(error, RateExceeded):
        return _with(problem, _seconds(error.retry_after_s))
    return problem


def _of_kind(kind: Kind, cause: str, error: MicrotomeError | None = None) -> Problem:
    headers = _seconds(RETRY_AFTER_S) if kind.retry else {}
    if kind.detail is None and error is not None:
        return Problem(kind.status, cause, error.message, error.remedy, headers=headers)
    return Problem(kind.status, cause, kind.detail or "", kind.remedy, headers=headers)


def _with(problem: Problem, headers: Mapping[str, str]) -> Problem:
    return replace(problem, headers=headers)


def _invalid(error: RequestValidationError) -> Problem:
    """Where a request is wrong, without what stood there: it may be of a patient."""
    errors = tuple(
        {"field": ".".join(str(part) for part in one["loc"]), "message": str(one["msg"])}
        for one in error.errors()
    )
    fields = ", ".join(sorted({one["field"] for one in errors}))
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "request-invalid",
        f"the request isn't as /openapi.json describes it: {fields}",
        "See `errors`.",
        errors,
    )


def _http(error: HTTPException) -> Problem:
    phrase = HTTPStatus(error.status_code).phrase
    cause = phrase.lower().replace(" ", "-")
    return Problem(error.status_code, cause, str(error.detail), headers=error.headers or {})


def _seconds(wait_s: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(wait_s)))}


def _overloaded(error: BackPressureError) -> Problem:
    wait = _seconds(error.retry_after_s or RETRY_AFTER_S)
    detail = "the server has more to do than it can"
    return Problem(error.status_code, "overloaded", detail, "Ask again shortly.", headers=wait)


_TELLERS: Final[tuple[tuple[type[BaseException], Callable[[Any], Problem]], ...]] = (
    (MicrotomeError, _ours),
    (RequestValidationError, _invalid),
    (HTTPException, _http),
    (BackPressureError, _overloaded),
    (TimeoutError, lambda _: _ours(_LATE)),  # Ray's GetTimeoutError is one, too
    (RayError, lambda _: _of_kind(UNAVAILABLE, "unavailable")),
    (RayServeException, lambda _: _of_kind(UNAVAILABLE, "unavailable")),
)
