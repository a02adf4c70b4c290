"""Tokens of an OpenID Connect issuer: signed JWTs, verified by PyJWT.

signature by a key of the issuer, by an asymmetric algorithm → issuer, audience, times → who it
is, the role and the rows, from claims that the settings name. What the settings don't expect is
refused, never taken for the less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol, get_args
from urllib.parse import urlsplit

import jwt
from jwt import PyJWK, PyJWKClient, PyJWKSet

from microtome.config import check_choice, check_positive
from microtome.errors import AccessUnavailable, SettingError, TokenRefused
from microtome_serve.filters import Condition
from microtome_serve.tokens import MOST_LETTERS, Role

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
                     "ES256", "ES384", "ES512", "EdDSA")  # fmt: skip
"""Never `none`, nor HS*, whose key is shared: an issuer's public key would be taken for it."""

MOST_BYTES: Final = 8192
FETCH_S: Final = 5.0
KEPT_S: Final = 300.0
PAUSE_S: Final = 10.0
"""After a failed fetch of the keys nobody tries again for so long."""

_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Whose JWTs are taken, and how their claims are read; without an issuer none are.

    Attributes:
        issuer: the claim `iss`, exactly.
        audience: must be in the claim `aud`.
        keys: where the issuer's public keys (JWKS) lie: an https URL, or a file.
        algorithms: of signatures, from `ALGORITHMS`.
        leeway_s: by how much clocks may differ.
        name_claim: who it is, for the audit log and the rate.
        role_claim: a text, or a list that holds one; dots lead into it: `realm_access.roles`.
        roles: the role by the claim's value.
        rows_claim: a text or a list of texts that limits the rows; empty where all see all.
        rows_field: the column whose value must be one of them.
    """

    issuer: str = ""
    audience: str = ""
    keys: str = ""
    algorithms: Sequence[str] = ("RS256", "ES256")
    leeway_s: float = 30.0
    name_claim: str = "sub"
    role_claim: str = "role"
    roles: Mapping[str, Role] = field(
        default_factory=lambda: {"reader": "reader", "operator": "operator"}
    )
    rows_claim: str = ""
    rows_field: str = ""

    def __post_init__(self) -> None:
        if not self.issuer:
            return
        if not (self.audience and self.keys and self.algorithms and self.roles):
            raise SettingError(
                "tokens of an issuer need its audience, keys, algorithms and roles",
                remedy="Without an audience, its tokens for any other service would do here.",
            )
        if bool(self.rows_claim) != bool(self.rows_field):
            raise SettingError("rows_claim and rows_field go together")
        for algorithm in self.algorithms:
            check_choice("algorithms", algorithm, ALGORITHMS)
        for role in self.roles.values():
            check_choice("roles", role, get_args(Role))
        if self.leeway_s != 0:
            check_positive("leeway_s", self.leeway_s, most=300.0)
        place = urlsplit(self.keys)
        if place.scheme == "http" and place.hostname not in _LOOPBACK:
            raise SettingError(
                f"the keys lie at {self.keys}, where anyone on the way could exchange them",
                remedy="Take an https:// URL.",
            )


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a JWT says its bearer is."""

    name: str
    role: Role
    rows: tuple[Condition, ...]


class Issuer:
    """Verifies the JWTs of one issuer."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        remote = urlsplit(settings.keys).scheme in {"http", "https"}
        self._keys: _Keys = _FetchedKeys(settings.keys) if remote else _KeyFile(settings.keys)

    def bearer(self, token: str) -> Bearer:
        """Who sent a JWT.

        Raises:
            TokenRefused: it isn't the issuer's, isn't for us, isn't of this time, or its claims
                say what the settings don't expect. The message is for the log.
            AccessUnavailable: the issuer's keys can't be had.
        """
        if len(token) > MOST_BYTES:
            raise TokenRefused("the JWT is too long")
        try:
            claims = self._claims(token)
        except jwt.InvalidTokenError as error:
            raise TokenRefused(f"the JWT isn't right: {type(error).__name__}") from None
        return Bearer(self._name(claims), self._role(claims), self._rows(claims))

    def _claims(self, token: str) -> Mapping[str, Any]:
        settings = self._settings
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in settings.algorithms:  # before any key is asked for
            raise TokenRefused("the JWT's algorithm isn't taken")
        claims: Mapping[str, Any] = jwt.decode(
            token,
            self._keys.key(header.get("kid")),
            algorithms=list(settings.algorithms),
            issuer=settings.issuer,
            audience=settings.audience,
            leeway=settings.leeway_s,
            options={"require": ["exp", "iss", "aud"]},
        )
        return claims

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._settings.name_claim)
        if not (isinstance(name, str) and 0 < len(name) <= MOST_LETTERS and name.isprintable()):
            raise TokenRefused(f"the JWT's {self._settings.name_claim} is no name")
        return f"oidc:{name}"  # never the name of a token of ours

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The highest role among the claim's values; lists hold other services' roles, too."""
        found: Any = claims
        for step in self._settings.role_claim.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        said = found if isinstance(found, list) else [found]
        roles = {self._settings.roles.get(one) for one in said if isinstance(one, str)}
        for role in ("operator", "reader"):
            if role in roles:
                return role
        raise TokenRefused(f"the JWT's {self._settings.role_claim} names no role of this server")

    def _rows(self, claims: Mapping[str, Any]) -> tuple[Condition, ...]:
        settings = self._settings
        if not settings.rows_claim:
            return ()
        found = claims.get(settings.rows_claim)
        values: list[Any] = found if isinstance(found, list) else [found]
        if not values or not all(isinstance(one, str) and one for one in values):
            raise TokenRefused(f"the JWT's {settings.rows_claim} names no rows")
        return (Condition(settings.rows_field, "in", values),)


class _Keys(Protocol):
    def key(self, key_id: Any) -> PyJWK:
        """The public key of that id; raises `TokenRefused` or `AccessUnavailable`."""
        ...


class _FetchedKeys:
    """From the issuer's server; kept for minutes, and rarely asked again for an unknown id."""

    def __init__(self, url: str) -> None:
        self._client = PyJWKClient(
            url, lifespan=KEPT_S, timeout=FETCH_S, cooldown_duration=2 * PAUSE_S
        )
        self._lock = Lock()
        self._failed_at = -PAUSE_S

    def key(self, key_id: Any) -> PyJWK:
        with self._lock:  # one fetches, for all who wait
            return self._key(key_id)

    def _key(self, key_id: Any) -> PyJWK:
        if time.monotonic() - self._failed_at < PAUSE_S:
            raise _no_keys("couldn't be fetched a moment ago")
        try:
            self._client.get_signing_keys()  # kept, or fetched
        except (jwt.PyJWTError, ValueError, OSError):
            self._failed_at = time.monotonic()
            raise _no_keys("can't be fetched") from None
        try:
            return self._client.get_signing_key(key_id)
        except jwt.PyJWTError:
            raise TokenRefused("the JWT is signed by an unknown key") from None


class _KeyFile:
    """From a file; read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int] | None = None
        self._by_id: Mapping[str | None, PyJWK] = {}

    def key(self, key_id: Any) -> PyJWK:
        try:
            about = self._path.stat()
            if (about.st_ino, about.st_mtime_ns) != self._stamp:
                keys = PyJWKSet.from_dict(json.loads(self._path.read_bytes())).keys
                self._by_id = {one.key_id: one for one in keys}
                self._stamp = about.st_ino, about.st_mtime_ns
        except (OSError, ValueError, TypeError, AttributeError, jwt.PyJWTError):
            raise _no_keys("can't be read from their file") from None
        if not isinstance(key_id, str) or key_id not in self._by_id:
            raise TokenRefused("the JWT is signed by an unknown key")
        return self._by_id[key_id]


def _no_keys(problem: str) -> AccessUnavailable:
    return AccessUnavailable(f"the issuer's keys {problem}", remedy="Check `keys` of the settings.")
