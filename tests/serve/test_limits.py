"""Rates by a clock that the test turns, and guards against what a client may send."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import httpx
import pytest
from fastapi import Body, FastAPI, UploadFile
from hypothesis import given
from hypothesis import strategies as st

from microtome.errors import RateExceeded, SettingError
from microtome_serve import guards, problems
from microtome_serve.limits import MOST_NAMES, Limits, Rates

LIMITS = Limits(body_bytes=100, upload_bytes=1000, body_s=60.0, deadline_s=60.0)
HASTY = {"body": replace(LIMITS, body_s=0.2), "deadline": replace(LIMITS, deadline_s=1.0)}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, name: str = "a", rate: float | None = None) -> bool:
    try:
        rates.take(name, rate)
    except RateExceeded:
        return False
    return True


@pytest.mark.parametrize(
    # rate, burst, how many go at once, and how many more after so many seconds
    ("rate", "burst_s", "at_once", "later_s", "more"),
    [
        (10.0, 2.0, 20, 0.35, 3),
        (10.0, 0.1, 1, 0.1, 1),
        (1.0, 2.0, 2, 0.9, 0),
        (1.0, 2.0, 2, 1.0, 1),
        (0.5, 1.0, 1, 1.9, 0),  # a slow one: one at its time, whatever the burst
        (0.5, 1.0, 1, 2.0, 1),
        (5.0, 2.0, 10, 3600.0, 10),  # a pause gives no more than the burst
    ],
)
def test_a_rate(rate, burst_s, at_once, later_s, more):
    clock = Clock()
    rates = Rates(Limits(rate_per_s=rate, burst_s=burst_s), clock)
    assert sum(taken(rates) for _ in range(100)) == at_once
    clock.now += later_s
    assert sum(taken(rates) for _ in range(100)) == more


@given(
    steps=st.lists(st.floats(0, 2), min_size=1, max_size=60),
    rate=st.floats(0.1, 20),
    burst_s=st.floats(0.1, 5),
)
def test_in_any_time_no_more_go_than_rate_and_burst_allow(steps, rate, burst_s):
    clock = Clock()
    rates = Rates(Limits(rate_per_s=rate, burst_s=burst_s), clock)
    went = []
    for step in steps:
        clock.now += step
        if taken(rates):
            went.append(clock.now)
    for first in range(len(went)):
        for last in range(first, len(went)):
            span = went[last] - went[first]
            assert last - first + 1 <= rate * span + max(rate * burst_s, 1) + 1e-6


def test_when_to_come_again_is_said_rightly():
    clock = Clock()
    rates = Rates(Limits(rate_per_s=0.25), clock)
    rates.take("a")
    with pytest.raises(RateExceeded) as refused:
        rates.take("a")
    clock.now += refused.value.retry_after_s - 0.01
    assert not taken(rates)
    clock.now += 0.01
    assert taken(rates)


def test_names_do_not_share_a_rate_and_no_rate_is_no_limit():
    rates = Rates(Limits(rate_per_s=1.0, burst_s=1.0), Clock())
    assert [taken(rates, name) for name in ("a", "b", "a")] == [True, True, False]
    free = Rates(Limits(), Clock())
    assert all(taken(free) for _ in range(1000))
    assert [taken(free, "a", 0.5) for _ in range(2)] == [True, False]  # its own


def test_many_names_do_not_fill_the_memory():
    clock = Clock()
    rates = Rates(Limits(rate_per_s=100.0), clock)
    for number in range(3 * MOST_NAMES):
        clock.now += 0.02
        rates.take(str(number))
    assert len(rates._due) <= MOST_NAMES


@pytest.mark.parametrize(
    "wrong",
    [
        {"upload_bytes": 0},
        {"k": 0},
        {"k": 1.5},
        {"pixels": 10**12},
        {"body_s": 0},
        {"deadline_s": float("inf")},
        {"rate_per_s": -1},
    ],
)
def test_limits_that_are_none_are_refused(wrong):
    with pytest.raises(SettingError):
        Limits(**wrong)


@pytest.fixture
def app():
    return app_of(LIMITS)


def app_of(limits: Limits) -> FastAPI:
    app = FastAPI()

    @app.post("/json")
    async def json(body: Annotated[dict, Body()]) -> int:
        return len(body)

    @app.post("/upload")
    async def upload(file: UploadFile) -> int:
        return len(await file.read())

    @app.get("/slow")
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            app.state.cancelled = True
            raise

    @app.get("/late")
    async def late() -> None:
        raise TimeoutError("of something behind")

    problems.install(app)
    guards.install(app, limits)
    return app


async def asked(app, method: str, path: str, **how) -> httpx.Response:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://test"
    ) as client:
        return await client.request(method, path, **how)


def ask(app, method: str, path: str, **how) -> httpx.Response:
    return asyncio.run(asked(app, method, path, **how))


def test_what_is_within_the_limits_passes(app):
    assert ask(app, "POST", "/json", json={"a": 1}).json() == 1
    assert ask(app, "POST", "/upload", files={"file": b"x" * 500}).json() == 500


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/json", {"json": {"a": "x" * 100}}),
        ("/json", {"content": b"x" * 101}),
        ("/upload", {"files": {"file": b"x" * 1000}}),
    ],
)
def test_a_body_that_says_it_is_too_large_is_refused_unread(app, path, how):
    answer = ask(app, "POST", path, **how)
    assert (answer.status_code, answer.json()["cause"]) == (413, "too-large")
    assert answer.headers["Connection"] == "close"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_body_that_grows_too_large_is_refused_on_the_way(app):
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield b"x" * 10

    answer = ask(app, "POST", "/json", content=endless())
    assert (answer.status_code, answer.json()["cause"]) == (413, "too-large")
    assert len(sent) <= 12


def test_a_length_that_is_a_lie_does_not_help(app):
    async def body():
        for _ in range(20):
            yield b"x" * 10

    answer = ask(app, "POST", "/json", content=body(), headers={"Content-Length": "5"})
    assert answer.status_code == 413


@pytest.mark.parametrize("pause_s", [0.05, 60])
def test_a_body_that_comes_too_slowly_is_refused(pause_s):
    async def trickle():
        while True:
            yield b" "
            await asyncio.sleep(pause_s)

    answer = ask(app_of(HASTY["body"]), "POST", "/json", content=trickle())
    assert (answer.status_code, answer.json()["cause"]) == (408, "too-slow")
    assert answer.headers["Connection"] == "close"


def test_work_that_takes_too_long_is_given_up():
    app = app_of(HASTY["deadline"])
    answer = ask(app, "GET", "/slow")
    assert (answer.status_code, answer.json()["cause"]) == (504, "deadline-passed")
    assert answer.headers["Retry-After"]
    assert app.state.cancelled


def test_what_is_late_behind_the_server_is_told_alike(app):
    assert ask(app, "GET", "/late").json()["cause"] == "deadline-passed"


@pytest.mark.parametrize("body", [b"[" * 90, b'{"a": 1', b"\xff", b"1" * 90])
def test_a_body_that_is_no_json_is_a_problem_document(app, body):
    answer = ask(app, "POST", "/json", content=body)
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"
