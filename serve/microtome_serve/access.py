"""Who may ask, and which rows exist for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import pyarrow as pa
from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from microtome.errors import NotAllowed
from microtome_serve.limits import Limits

Role = Literal["reader", "operator"]
Columns = Callable[[], Awaitable[pa.Schema]]
"""Gives the columns that a token's rows may be limited by, see `filters.row_columns`."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and what there is for them.

    Attributes:
        name: of the token, for the audit line and the rate.
        role: an operator may do what a reader may, and see how the server does.
        rows: condition on the columns that `tiles` and `slides` share, in Lance's SQL; what
            doesn't fulfil it doesn't exist for them. None is everything.
    """

    name: str
    role: Role
    rows: str | None = None


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How a server knows who asks.

    Attributes:
        open: nobody needs a token; only on a loopback address.
        tokens: file or URI of the tokens that `microtome token` makes.
    """

    open: bool = False
    tokens: str = ""


class Gate:
    """Looks up who asks. One per ingress replica: it holds what was read, and the rates."""

    def __init__(self, settings: AuthSettings, limits: Limits, columns: Columns) -> None:
        self._settings = settings

    async def admit(self, token: str | None) -> Access:
        """Who asks with this bearer token.

        Raises:
            TokenRefused: none, unknown, malformed, expired or revoked.
            AccessUnavailable: the token file or the issuer's keys can't be read, or the token's
                rows can't be told in this atlas.
            RateExceeded: more requests than the token may send.
        """
        return Access("open", "operator")


def install(app: FastAPI, gate: Gate) -> None:
    """Let the dependencies of `app` find who may ask."""
    app.state.gate = gate


_bearer = HTTPBearer(auto_error=False, description="A token of `microtome token make`, or a JWT.")
_Sent = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def reader(request: Request, sent: _Sent) -> Access:
    """Dependency of a route that any token may ask.

    Raises:
        TokenRefused, AccessUnavailable, RateExceeded: see `Gate.admit`.
    """
    gate: Gate = request.app.state.gate
    access = await gate.admit(sent.credentials if sent else None)
    request.state.access = access
    return access


async def operator(access: Annotated[Access, Depends(reader)]) -> Access:
    """Dependency of a route for operators.

    Raises:
        NotAllowed: a reader's token.
        TokenRefused, AccessUnavailable, RateExceeded: see `Gate.admit`.
    """
    if access.role != "operator":
        raise NotAllowed("this is for operators", remedy="Ask with a token of that role.")
    return access


Reader = Annotated[Access, Depends(reader)]
Operator = Annotated[Access, Depends(operator)]
