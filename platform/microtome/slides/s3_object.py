"""One S3 object at one version, by ranges: each comes from that version, or says why not.

What passes by itself is tried again, later and later and at random, so that many readers do not
come back together: throttling, the store's own faults, connections lost or stuck, bodies cut short.
What doesn't pass (refused, gone, changed) fails at once.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

from microtome.errors import SlideChanged, SlideError, SlideUnreadable
from microtome.slides.storage import filesystem_of
from microtome.slides.tiff_source import ByteRange

CONCURRENCY = 32
"""Requests under way at once, with a connection each; as many bodies are in memory."""

_THROTTLED = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "InternalError"}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried.

    Attributes:
        attempts: before it is given up, ≥ 1.
        attempt_s: for one attempt, its body included.
        first_pause_s: longest pause after the first attempt; each further one may last twice as
            long as the one before.
        longest_pause_s: of all pauses.
    """

    attempts: int = 6
    attempt_s: float = 30.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.attempt_s, self.first_pause_s, self.longest_pause_s) <= 0:
            raise ValueError(f"no request succeeds with {self}")

    def pause_s(self, attempt: int) -> float:
        """At random up to the pause's length.

        "Full jitter" of Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        longest_s = min(self.longest_pause_s, self.first_pause_s * 2**attempt)
        return random.uniform(0, longest_s)  # noqa: S311 (no secret)


class _CutShort(Exception):
    """The store sent another number of bytes than it was asked for."""


_PASSING = (
    HTTPClientError, IncompleteReadError, ResponseParserError, aiohttp.ClientError,
    OSError, TimeoutError, _CutShort,
)  # fmt: skip


class S3Object:
    """Ranges of one version of an object.

    Args:
        uri: where it lies.
        name: the slide as its user named it.
        etag: the version; anything else is refused.
        patience: how long a request is tried.

    Raises:
        SettingError: the URI holds a secret.
    """

    def __init__(self, uri: str, name: str, etag: str, patience: Patience = Patience()) -> None:
        # One attempt here: the client's own retries inside ours would multiply.
        config = {"retries": {"total_max_attempts": 1}, "max_pool_connections": CONCURRENCY}
        self._filesystem, path = filesystem_of(uri, config_kwargs=config)
        self._bucket, self._key, _ = self._filesystem.split_path(path)
        self._shown = uri if uri.endswith(name) else f"{name} ({uri})"
        self._etag = etag
        self._patience = patience
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self.bytes_moved = 0
        """Bytes of bodies that came in, those of failed attempts included."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where `get` runs."""
        loop: asyncio.AbstractEventLoop = self._filesystem.loop
        return loop

    async def get(self, wanted: ByteRange) -> bytes:
        """The bytes of one range.

        Raises:
            SlideChanged: another version lies there now.
            SlideUnreadable: the store refuses, or keeps failing.
        """
        async with self._slots:
            attempt = 0
            while True:
                attempt += 1
                try:
                    async with asyncio.timeout(self._patience.attempt_s):
                        return await self._attempt(wanted)
                except (*_PASSING, BotoCoreError, ClientError) as error:
                    if attempt == self._patience.attempts or not _passes(error):
                        raise self._failure(error, attempt) from None
                await asyncio.sleep(self._patience.pause_s(attempt - 1))

    async def _attempt(self, wanted: ByteRange) -> bytes:
        await self._filesystem.set_session()
        client = await self._filesystem.get_s3(self._bucket)
        answer = await client.get_object(
            Bucket=self._bucket,
            Key=self._key,
            Range=f"bytes={wanted.offset}-{wanted.offset + wanted.size - 1}",
            IfMatch=self._etag,
        )
        async with answer["Body"] as body:
            if answer["ETag"] != self._etag:  # not every store knows If-Match
                raise self._changed()
            if answer["ContentLength"] != wanted.size:
                raise _CutShort
            return await self._read(body, wanted.size)

    async def _read(self, body: Any, size: int) -> bytes:
        chunks = []
        async for chunk in body.iter_chunks(1 << 18):
            self.bytes_moved += len(chunk)
            chunks.append(chunk)
        whole = b"".join(chunks)
        if len(whole) != size:
            raise _CutShort
        return whole

    def _failure(self, error: Exception, attempts: int) -> SlideError:
        status, code = _said(error)
        if status == HTTPStatus.PRECONDITION_FAILED:
            return self._changed()
        if status == HTTPStatus.NOT_FOUND:
            return SlideUnreadable(
                f"{self._shown} is gone from its store: {code}", remedy="Check where it went."
            )
        if status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}:
            return SlideUnreadable(
                f"{self._shown} can't be read: {code}",
                remedy="Check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE); they may have run out.",
            )
        times = f" {attempts} times in a row" if attempts > 1 else ""
        return SlideUnreadable(
            f"{self._shown} can't be read: its store said {code}{times}",
            remedy="Run again once the store answers.",
        )

    def _changed(self) -> SlideChanged:
        return SlideChanged(
            f"{self._shown} changed while it was read",
            remedy="Run again once nothing writes to it.",
        )


def _passes(error: Exception) -> bool:
    """Whether trying again can help."""
    if isinstance(error, ClientError):
        status, code = _said(error)
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == 429 or code in _THROTTLED
    return isinstance(error, _PASSING)


def _said(error: Exception) -> tuple[int, str]:
    """The answer's status, 0 if there was none, and a word for it that can't hold a secret."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status), str(error.response.get("Error", {}).get("Code", status))
    words = {_CutShort: "another number of bytes", TimeoutError: "nothing in time"}
    return 0, words.get(type(error), type(error).__name__)
