"""What one request may cost, and how often a token may send one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from microtome.config import check_positive, check_whole
from microtome.search.picture import MAX_PIXELS

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost; more is refused before it is worked on.

    Attributes:
        upload_bytes: a multipart body, at most: all pictures of a request together.
        body_bytes: any other body, at most; 32 vectors of 2,560 values are 2 MB of JSON.
        pixels: of one picture, asked before it is decoded.
        images: in one request.
        queries: in one request.
        k: hits per query.
        conditions: of a filter.
        body_s: seconds within which a body must have arrived.
        deadline_s: seconds after which an answer is given up, the body's arrival included.
        rate_per_s: requests a second of a token that has no rate of its own; 0 is any number.
        burst_s: seconds' worth of them that may come at once.
    """

    upload_bytes: int = 32 * MIB
    body_bytes: int = 4 * MIB
    pixels: int = MAX_PIXELS
    images: int = 64
    queries: int = 32
    k: int = 1000
    conditions: int = 32
    body_s: float = 15.0
    deadline_s: float = 30.0
    rate_per_s: float = 0.0
    burst_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("upload_bytes", "body_bytes", "images", "queries", "k", "conditions"):
            check_whole(name, getattr(self, name), least=1)
        check_whole("pixels", self.pixels, least=1, most=MAX_PIXELS)
        for name in ("body_s", "deadline_s", "burst_s"):
            check_positive(name, getattr(self, name), most=3600.0)
        if self.rate_per_s != 0:
            check_positive("rate_per_s", self.rate_per_s)
