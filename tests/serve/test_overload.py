"""More than a server can do: what it takes it answers, what it doesn't it refuses at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from microtome_serve.limits import Limits
from microtome_serve.settings import Scale
from support.serving import served_beside

REGION = {
    "queries": [
        {"kind": "region", "slide_id": "north/a", "x": 0, "y": 0, "width_px": 128, "height_px": 192}
    ],
    "level": "region",
}
"""Seconds of work."""


@pytest.fixture(scope="module")
def narrow(serve_port, serve_settings, server) -> Iterator[httpx.Client]:
    """A server of one search at a time, two that wait, and a short deadline."""
    settings = replace(
        serve_settings,
        limits=Limits(deadline_s=2.0),
        search=Scale(cpus=0.05, max_ongoing=1, max_queued=2),
    )
    with (
        served_beside(settings, "narrow", serve_port) as url,
        httpx.Client(base_url=url, timeout=60.0) as client,
    ):
        yield client


def test_what_is_too_much_is_refused_at_once_with_when_to_come_again(narrow):
    def ask(_: int) -> tuple[httpx.Response, float]:
        started = time.monotonic()
        return narrow.post("/v1/search", json=REGION), time.monotonic() - started

    with ThreadPoolExecutor(12) as twelve:
        answers = list(twelve.map(ask, range(12)))
    refused = [(answer, took_s) for answer, took_s in answers if answer.status_code == 503]

    assert len(refused) >= 12 - 3 - 2  # one that is answered and two that wait; some come late
    for answer, _ in refused:
        assert answer.json()["cause"] == "overloaded"
        assert int(answer.headers["Retry-After"]) >= 1
    assert {answer.status_code for answer, _ in answers} <= {200, 503, 504}
    assert sorted(took_s for _, took_s in refused)[0] < 1.5


def test_what_takes_too_long_is_given_up_and_frees_its_place(narrow):
    late = narrow.post("/v1/search", json={**REGION, "queries": REGION["queries"] * 8})

    assert late.status_code == 504
    assert late.json()["cause"] == "deadline-passed"
    started = time.monotonic()
    while narrow.get("/v1/atlas").status_code != 200:
        assert time.monotonic() - started < 20, "its place was never free again"


def test_health_is_told_under_load(narrow):
    with ThreadPoolExecutor(12) as twelve:
        asked = [twelve.submit(narrow.post, "/v1/search", json=REGION) for _ in range(12)]
        assert narrow.get("/healthz").status_code == 200
        for one in asked:
            one.result()
