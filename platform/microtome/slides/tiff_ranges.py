"""Few requests for many byte ranges: those that lie close are fetched as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from microtome.slides.tiff_source import ByteRange

MOST_WASTE = 0.05
"""Unwanted bytes between ranges, as a fraction of the wanted ones of one request."""

REQUEST_BYTES = 1 << 20
"""At 50 ms a request and 32 at once this brings 600 MB/s; some 50 tiles share one answer."""


class Run(NamedTuple):
    """Ranges that are fetched as one, in the file's order.

    Attributes:
        span: what is asked for.
        ranges: what is wanted of it.
    """

    span: ByteRange
    ranges: list[ByteRange]


def merged(ranges: Iterable[ByteRange], request_bytes: int = REQUEST_BYTES) -> list[Run]:
    """Join ranges that follow each other, or nearly.

    Every run's span holds at most 1 + `MOST_WASTE` times the bytes that are wanted of it, and at
    most `request_bytes` unless it is a single range.
    """
    runs: list[Run] = []
    wanted = 0
    for one in sorted(set(ranges)):
        if runs:
            span = _spanning(runs[-1].span, one)
            new = max(0, _end(one) - max(one.offset, _end(runs[-1].span)))
            if span.size <= min(request_bytes, (1 + MOST_WASTE) * (wanted + new)):
                runs[-1].ranges.append(one)
                runs[-1] = runs[-1]._replace(span=span)
                wanted += new
                continue
        runs.append(Run(one, [one]))
        wanted = one.size
    return runs


def _end(one: ByteRange) -> int:
    return one.offset + one.size


def _spanning(first: ByteRange, second: ByteRange) -> ByteRange:
    """From the start of the first to the later end."""
    return ByteRange(first.offset, max(_end(first), _end(second)) - first.offset)
