"""When a request is tried again, and what an answer that is none becomes."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import httpx

from microtome import errors
from microtome.errors import (
    MicrotomeError,
    ServerBusy,
    ServerError,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    SettingError,
)

PASSING: Final = {429, 503}
"""Statuses after which the same request may well succeed."""

LOST: Final = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)
"""No connection, or one that broke; every request only reads, so it may be sent twice."""

Outcome = httpx.Response | httpx.TransportError
"""What became of a try."""

_KINDS: Final = {
    kind.cause: kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, MicrotomeError) and kind is not MicrotomeError
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client goes on.

    Attributes:
        deadline_s: for a request with all its tries. `Client` looks at the clock at each piece of
            an answer, so a server that sends its headers letter by letter may keep it longer.
        tries: at most.
        first_s: the first wait is a random part of it, each further of twice the one before ("full
            jitter", so that many clients don't come back together).
        most_s: longest such wait; what a server asks for (`Retry-After`) is waited in any case.
    """

    deadline_s: float = 60.0
    tries: int = 6
    first_s: float = 0.2
    most_s: float = 10.0

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.tries >= 1 and 0 < self.first_s <= self.most_s):
            raise SettingError(f"no client can be patient like this: {self}")


@dataclass(slots=True)
class Tries:
    """One request's tries; the waiting itself is the client's.

    Attributes:
        server: its address, for messages.
        patience: how long to go on.
        clock: seconds.
        chance: a random number in [0, 1).
    """

    server: str
    patience: Patience
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    made: int = field(default=0, init=False)
    ends_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.ends_s = self.clock() + self.patience.deadline_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, for the next try."""
        return max(0.001, self.ends_s - self.clock())

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock() >= self.ends_s

    def after(self, outcome: Outcome) -> float | None:
        """What comes after a try.

        Returns:
            None where it was answered well, else seconds to wait before the next.

        Raises:
            MicrotomeError: there is no next; the answer's own error where it tells one.
        """
        self.made += 1
        if isinstance(outcome, httpx.Response):
            if outcome.is_success:
                return None
            if outcome.status_code not in PASSING:
                raise told(outcome)
            least_s = _seconds(outcome.headers.get("retry-after", ""))
        elif isinstance(outcome, LOST):
            least_s = 0.0
        else:
            self._give_up(outcome)
        grown_s = self.patience.first_s * 2.0 ** (self.made - 1)
        wait_s = least_s + self.chance() * min(self.patience.most_s, grown_s)
        if self.made >= self.patience.tries or self.clock() + wait_s >= self.ends_s:
            self._give_up(outcome)
        return wait_s

    def _give_up(self, outcome: Outcome) -> NoReturn:
        if isinstance(outcome, httpx.Response):
            raise told(outcome)
        late = not isinstance(outcome, LOST)
        problem = "doesn't answer in time" if late else "can't be reached"
        raise ServerUnreachable(
            f"the server {self.server} {problem}",
            remedy="Ask for less, or give it more time." if late else "Check its address.",
        ) from outcome


def told(response: httpx.Response) -> MicrotomeError:
    """The error that a server tells: the same type that the library raises on the spot."""
    problem = _problem(response)
    cause, remedy = str(problem.get("cause", "")), str(problem.get("remedy", ""))
    phrase = f"{response.status_code} {response.reason_phrase}".strip()
    message = str(problem.get("detail") or f"the server answered {phrase}")
    kind = _KINDS.get(cause, _of_status(response.status_code))
    if wrong := _wrong_fields(problem.get("errors")):
        remedy = wrong
    return kind(message, remedy=remedy)


def _wrong_fields(errors: Any) -> str:
    """What is wrong where in a request; empty where it isn't told as our servers do."""
    try:
        return "; ".join(f"{one['field']}: {one['message']}" for one in errors or ())
    except (TypeError, KeyError):
        return ""


def _of_status(status: int) -> type[ServerError]:
    if status in PASSING:
        return ServerBusy
    return ServerFailed if status >= 500 else ServerRefused


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document; empty where a proxy answered."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(retry_after: str) -> float:
    """Of `Retry-After`; a date, which our servers don't send, counts as nothing said."""
    return float(retry_after) if retry_after.strip().isdecimal() else 0.0
