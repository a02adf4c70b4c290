"""Bearer tokens: who may ask, in one JSON file that `microtome token` writes.

A token is `mt_` and 256 random bits. The file holds its SHA-256 alone: nobody can guess 256 bits,
so a slow, salted hash, as for passwords, would only slow the server down. A change is one atomic
replacement of the whole file, and two that happen at once both count.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from microtome.config import check_choice, check_positive
from microtome.errors import AccessUnavailable, FilterInvalid, SettingError
from microtome_serve.filters import Condition, Operator, check_rows
from microtome_serve.token_store import Stamp, TokenStore, token_store

Role = Literal["reader", "operator"]

PREFIX: Final = "mt_"
FORMAT: Final = 1
MOST_LETTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        id: names it in commands and lists.
        name: whose it is, as the audit log shows it.
        hash: SHA-256 of the token, hex.
        role: what its bearer may do.
        rows: what there is for them; empty is everything.
        rate_per_s: requests a second; None takes the server's limit.
        created: moment, ISO 8601 in UTC, as the following.
        expires: from then on it is refused; None is never.
        revoked: since then it has been refused; None where it hasn't.
    """

    id: str
    name: str
    hash: str
    role: Role
    rows: tuple[Condition, ...] = ()
    rate_per_s: float | None = None
    created: str = ""
    expires: str | None = None
    revoked: str | None = None

    def __post_init__(self) -> None:
        check_choice("role", self.role, get_args(Role))
        if not (0 < len(self.name) <= MOST_LETTERS and self.name.isprintable()):
            raise SettingError(
                f"a token's name has 1 to {MOST_LETTERS} printable letters, not {self.name!r}"
            )
        if self.rate_per_s is not None:
            check_positive("rate", self.rate_per_s)
        check_rows(self.rows)

    def status(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Whether it lets its bearer in."""
        if self.revoked is not None:
            return "revoked"
        if self.expires is not None and now >= datetime.fromisoformat(self.expires):
            return "expired"
        return "valid"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token to make.

    Attributes:
        name: as in `Token`, as the following.
        role: as in `Token`.
        rows: as in `Token`.
        rate_per_s: as in `Token`.
        expires_days: until it is refused; None is never.
    """

    name: str
    role: Role = "reader"
    rows: tuple[Condition, ...] = ()
    rate_per_s: float | None = None
    expires_days: float | None = None

    def __post_init__(self) -> None:
        if self.expires_days is not None:
            check_positive("expires_days", self.expires_days, most=36_500)


class TokenBook:
    """The tokens of one file, as they are now."""

    def __init__(self, uri: str) -> None:
        self._store: TokenStore = token_store(uri)
        self._uri = uri
        self._stamp: Stamp = None
        self._tokens: tuple[Token, ...] = ()

    def read(self) -> tuple[Token, ...]:
        """All tokens; the file is read again only if it has changed.

        Raises:
            AccessUnavailable: it isn't there, can't be read, or is damaged.
        """
        stamp = self._store.stamp()
        if stamp is None:
            raise _unavailable(self._uri, "isn't there")
        if stamp != self._stamp:
            stamp, data = self._store.read()
            self._tokens = _parsed(self._uri, data)
            self._stamp = stamp
        return self._tokens

    def make(self, wanted: Wanted) -> tuple[Token, str]:
        """Keep a new token.

        Returns:
            What is kept of it, and the token itself, which is nowhere else.

        Raises:
            SettingError: a valid token of that name is there.
            AccessUnavailable: the file can't be read or written, or is damaged.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        lasts = None if wanted.expires_days is None else timedelta(days=wanted.expires_days)
        token = Token(
            id=secrets.token_hex(4),
            name=wanted.name,
            hash=hashed(secret),
            role=wanted.role,
            rows=wanted.rows,
            rate_per_s=wanted.rate_per_s,
            created=_text(now),
            expires=None if lasts is None else _text(now + lasts),
        )

        def with_it(tokens: Sequence[Token]) -> list[Token]:
            if any(one.name == token.name and one.status(now) == "valid" for one in tokens):
                raise SettingError(
                    f"a token named {token.name!r} is there",
                    remedy="Take another name, or revoke it first: `microtome token list`.",
                )
            return [*tokens, token]

        self._change(with_it)
        return token, secret

    def revoke(self, token_id: str) -> Token:
        """Refuse a token from now on; one that was revoked before stays so.

        Raises:
            SettingError: there is none of that id.
            AccessUnavailable: as `make`.
        """
        now = _text(datetime.now(UTC))

        def without_it(tokens: Sequence[Token]) -> list[Token]:
            if all(one.id != token_id for one in tokens):
                raise SettingError(
                    f"there is no token {token_id!r}", remedy="See `microtome token list`."
                )
            return [
                replace(one, revoked=one.revoked or now) if one.id == token_id else one
                for one in tokens
            ]

        return next(one for one in self._change(without_it) if one.id == token_id)

    def _change(self, change: Callable[[Sequence[Token]], list[Token]]) -> list[Token]:
        after: list[Token] = []

        def changed(data: bytes | None) -> bytes:
            after[:] = change(_parsed(self._uri, data) if data is not None else ())
            return _written(after)

        self._store.change(changed)
        return after


def found(tokens: Sequence[Token], secret: str, now: datetime) -> Token | None:
    """The valid token that was sent; each is compared, and each in constant time."""
    sent, match = hashed(secret), None
    for token in tokens:
        if hmac.compare_digest(token.hash, sent):
            match = token
    return match if match is not None and match.status(now) == "valid" else None


def hashed(secret: str) -> str:
    """What is kept of a token, whatever letters a client sent as one."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def token_facts(token: Token, now: datetime) -> dict[str, Any]:
    """A token as lists show it, without its hash."""
    facts = asdict(token) | {"status": token.status(now)}
    return {name: value for name, value in facts.items() if name != "hash"}


def _parsed(uri: str, data: bytes) -> tuple[Token, ...]:
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise _unavailable(uri, f"has the format {document['format']!r}, not {FORMAT}")
        return tuple(_token(one) for one in document["tokens"])
    except (ValueError, KeyError, TypeError, AttributeError, SettingError, FilterInvalid):
        raise _unavailable(uri, "is damaged") from None


def _token(said: Mapping[str, Any]) -> Token:
    token = Token(**{**said, "rows": tuple(condition_of(one) for one in said.get("rows", ()))})
    for moment in (token.created, token.expires, token.revoked):
        if moment is not None and datetime.fromisoformat(moment).tzinfo is None:
            raise ValueError("a moment without its zone")
    if len(bytes.fromhex(token.hash)) != hashlib.sha256().digest_size:
        raise ValueError("no SHA-256")
    return token


def condition_of(said: Mapping[str, Any]) -> Condition:
    """A condition from plain JSON.

    Raises:
        ValueError, TypeError: it is none.
    """
    condition = Condition(**said)
    if not isinstance(condition.field, str) or condition.operator not in get_args(Operator):
        raise ValueError("no condition")
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    if not all(isinstance(one, bool | int | float | str) for one in values):
        raise ValueError("no value")
    return condition


def _written(tokens: Sequence[Token]) -> bytes:
    document = {"format": FORMAT, "tokens": [asdict(one) for one in tokens]}
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _unavailable(uri: str, problem: str) -> AccessUnavailable:
    return AccessUnavailable(
        f"the token file {uri} {problem}",
        remedy="Nobody is let in until it can be read; `microtome token make` writes a new one.",
    )
