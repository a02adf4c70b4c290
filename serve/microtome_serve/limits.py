"""What one request may cost, and how often a token may send one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from microtome.config import check_positive, check_whole
from microtome.errors import RateExceeded
from microtome.search.picture import MAX_PIXELS

MIB: Final = 1 << 20
MOST_NAMES: Final = 10_000
MOST_TILES: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost; more is refused before it is worked on.

    Bodies are held whole: an ingress replica needs memory for `max_ongoing` times `upload_bytes`
    twice, as they came and as they are passed on. By default that is 2 GiB at the very worst.

    Attributes:
        upload_bytes: a multipart body, at most: all pictures of a request together.
        body_bytes: any other body, at most; 32 vectors of 2,560 values are 2 MB of JSON.
        pixels: of one picture, asked before it is decoded; 16 megapixels are 48 MB.
        images: in one request.
        tiles: that are embedded for one request's pictures; one of 1 megapixel has up to 64.
        queries: in one request.
        k: hits per query.
        body_s: seconds within which a body must have arrived.
        deadline_s: seconds after which an answer is given up, the body's arrival included.
        rate_per_s: requests a second of a token that has no rate of its own; 0 is any number.
        burst_s: seconds' worth of them that may come at once.
    """

    upload_bytes: int = 32 * MIB
    body_bytes: int = 4 * MIB
    pixels: int = 16_777_216
    images: int = 64
    tiles: int = MOST_TILES
    queries: int = 32
    k: int = 1000
    body_s: float = 15.0
    deadline_s: float = 30.0
    rate_per_s: float = 0.0
    burst_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("upload_bytes", "body_bytes", "images", "tiles", "queries", "k"):
            check_whole(name, getattr(self, name), least=1)
        check_whole("pixels", self.pixels, least=1, most=MAX_PIXELS)
        for name in ("body_s", "deadline_s", "burst_s"):
            check_positive(name, getattr(self, name), most=3600.0)
        if self.rate_per_s != 0:
            check_positive("rate_per_s", self.rate_per_s)


def has_body(scope: Scope) -> bool:
    """Whether a request comes with a body, by its headers."""
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


class Rates:
    """Requests a second by name, as the generic cell rate algorithm counts them (ITU-T I.371).

    That is a token bucket told by one number a name: when the next request would be due if all
    came evenly. Each ingress replica counts for itself, so with n of them a name has up to n times
    its rate.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._due: dict[str, float] = {}

    def take(self, name: str, rate_per_s: float | None = None) -> None:
        """Count one request.

        Args:
            name: whose it is.
            rate_per_s: theirs; None takes the server's.

        Raises:
            RateExceeded: it is one too many, and isn't counted.
        """
        rate = self._limits.rate_per_s if rate_per_s is None else rate_per_s
        if rate == 0:
            return
        now = self._clock()
        due = max(self._due.get(name, now), now)
        ahead = max(self._limits.burst_s - 1 / rate, 0.0)  # one may always come at its time
        if (wait := due - now - ahead) > 1e-9:  # floats of a clock
            raise RateExceeded(
                "more requests than the token may send",
                remedy="Wait as Retry-After says.",
                retry_after_s=wait,
            )
        self._due[name] = due + 1 / rate
        if len(self._due) > MOST_NAMES:
            self._due = {one: due for one, due in self._due.items() if due > now}
