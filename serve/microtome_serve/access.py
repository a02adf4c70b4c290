"""Who may ask, and which rows exist for them.

`Authorization: Bearer …` → a token of ours, or an issuer's JWT → name, role, rows → rate → the
rows in the atlas's SQL. Whatever can't be looked up lets nobody in.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final
from urllib.parse import urlsplit

import pyarrow as pa
from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from microtome.errors import (
    AccessUnavailable,
    FilterInvalid,
    NotAllowed,
    SettingError,
    TokenRefused,
)
from microtome_serve.filters import Condition, compile_filter, typed
from microtome_serve.kept import Kept
from microtome_serve.limits import Limits, Rates, has_body
from microtome_serve.oidc import Issuer, OidcSettings
from microtome_serve.tokens import PREFIX, Role, Token, TokenBook, found

log = logging.getLogger("microtome.serve")

Columns = Callable[[], Awaitable[pa.Schema]]
"""Gives the columns that a token's rows may be limited by, see `filters.row_columns`."""

ISSUER_THREADS: Final = 4
"""They may wait for an issuer's keys; nothing else waits for them."""

CHECK_S: Final = 1.0
"""A revoked token is refused after so long; what was read, or why not, is kept meanwhile."""


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


OPEN: Final = Access("open", "operator")
"""Who asks an open server: whoever is on its machine."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How a server knows who asks; unless something is said, nobody may.

    Attributes:
        open: nobody needs a token, and everyone on this machine is an operator; no other machine
            can ask.
        tokens: file or URI of the tokens that `microtome token` makes.
        oidc: the issuer whose JWTs are taken.
    """

    open: bool = False
    tokens: str = ""
    oidc: OidcSettings = field(default_factory=OidcSettings)

    def __post_init__(self) -> None:
        if self.open and (self.tokens or self.oidc.issuer):
            raise SettingError("an open server asks for no tokens: say one or the other")
        if "://" in self.tokens and "@" in urlsplit(self.tokens).netloc:
            raise SettingError(
                "the URI of the tokens holds credentials",
                remedy="Name only bucket and path; give keys by AWS_ACCESS_KEY_ID and its like.",
            )

    def check(self, host: str) -> None:
        """Raise `SettingError` where nobody could ask, or an open server would listen to others.

        Asked before a server starts; were it not, nobody would be let in all the same.
        """
        if not (self.open or self.tokens or self.oidc.issuer):
            raise SettingError(
                "nobody could ask this server",
                remedy="Make a token with `microtome token make` and name its file, or switch "
                "tokens off on this machine alone.",
            )
        if self.open and not is_loopback(host):
            raise SettingError(
                f"a server without tokens can't listen at {host}",
                remedy="Take 127.0.0.1, or make tokens with `microtome token make`.",
            )


@dataclass(frozen=True, slots=True)
class _Known:
    """Who sent a good token."""

    name: str
    role: Role
    rows: tuple[Condition, ...]
    rate_per_s: float | None = None


class Gate:
    """Looks up who asks. One per ingress replica: it holds what was read, and the rates."""

    def __init__(self, settings: AuthSettings, limits: Limits, columns: Columns) -> None:
        self.open = settings.open
        self._tokens = _Tokens(TokenBook(settings.tokens)) if settings.tokens else None
        self._issuer = Issuer(settings.oidc) if settings.oidc.issuer else None
        self._threads = ThreadPoolExecutor(ISSUER_THREADS, thread_name_prefix="issuer")
        self._rates = Rates(limits)
        self._columns = Kept(columns)

    async def admit(self, token: str | None) -> Access:
        """Who asks with this bearer token.

        Raises:
            TokenRefused: none, unknown, malformed, expired or revoked: one text for all.
            AccessUnavailable: the token file or the issuer's keys can't be read, or the token's
                rows can't be told in this atlas.
            RateExceeded: more requests than the token may send.
        """
        if self.open:
            self._rates.take(OPEN.name)
            return OPEN
        try:
            known = await self._known(token or "")
        except TokenRefused as error:
            log.info("refused: %s", error.message)
            raise TokenRefused(
                "this needs a valid token", remedy="Send it as `Authorization: Bearer TOKEN`."
            ) from None
        self._rates.take(known.name, known.rate_per_s)
        return Access(known.name, known.role, await self._rows(known))

    async def _known(self, sent: str) -> _Known:
        if self._tokens is not None and (self._issuer is None or sent.startswith(PREFIX)):
            token = await self._tokens.find(sent)
            return _Known(token.name, token.role, token.rows, token.rate_per_s)
        if self._issuer is None or not sent:
            raise TokenRefused("no token")
        looking = asyncio.get_running_loop().run_in_executor(
            self._threads, self._issuer.bearer, sent
        )
        bearer = await looking
        return _Known(bearer.name, bearer.role, bearer.rows)

    async def _rows(self, known: _Known) -> str | None:
        if not known.rows:
            return None
        columns = await self._columns.answer()
        try:
            return compile_filter(typed(known.rows, columns), columns)
        except FilterInvalid as error:
            raise AccessUnavailable(f"the rows of {known.name} mean nothing: {error}") from None


class _Tokens:
    """The tokens of a file, looked at again at most every `CHECK_S`, by one request for all."""

    def __init__(self, book: TokenBook) -> None:
        self._read = Kept(partial(asyncio.to_thread, book.read), CHECK_S)

    async def find(self, sent: str) -> Token:
        token = found(await self._read.answer(), sent, datetime.now(UTC))
        if token is None:
            raise TokenRefused("unknown, expired or revoked")
        return token


class Admission:
    """Looks up who sends a body before it is read; FastAPI alone would take it all in first."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or raise as `Gate.admit`."""
        if scope["type"] == "http" and has_body(scope):
            request = Request(scope)
            request.state.access = await _asking(request, self._gate)
        await self._app(scope, receive, send)


def install(app: FastAPI, gate: Gate) -> None:
    """Let `app` know who asks; to be called before `problems.install`, which tells refusals."""
    app.state.gate = gate
    app.add_middleware(Admission, gate=gate)


_DESCRIBED: Final = HTTPBearer(
    auto_error=False, description="A token of `microtome token make`, or a JWT."
)


async def reader(
    request: Request, _sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_DESCRIBED)]
) -> Access:
    """Dependency of a route that any token may ask.

    Raises:
        TokenRefused, AccessUnavailable, RateExceeded: see `Gate.admit`.
        NotAllowed: the server is open, and the request comes from another machine, or from a web
            page that has its own name point here (DNS rebinding).
    """
    access: Access | None = getattr(request.state, "access", None)
    if access is None:
        request.state.access = access = await _asking(request, request.app.state.gate)
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


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _asking(request: Request, gate: Gate) -> Access:
    if gate.open and not _from_here(request):
        raise NotAllowed(
            "a server without tokens answers its own machine alone",
            remedy="Ask at http://127.0.0.1, or have tokens made.",
        )
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return await gate.admit(token.strip() if scheme.lower() == "bearer" else None)


def _from_here(request: Request) -> bool:
    client = request.client.host if request.client else ""
    return is_loopback(client) and is_loopback(request.url.hostname or "")
