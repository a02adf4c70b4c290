from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from microtome_serve import meter
from microtome_serve.meter import Totals
from microtome_serve.metrics import (
    ATLAS_VERSION,
    BATCH_TILES,
    IN_FLIGHT,
    REQUESTS,
    SECONDS,
    Readings,
    Tally,
)
from microtome_serve.routes_metrics import Measured


def samples(totals):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(totals.text())
        for sample in family.samples
    }


def labelled(**labels):
    return sorted(labels.items())


def test_counts_of_all_processes_are_added_and_none_twice():
    one, other, totals = Tally(), Tally(), Totals()
    for tally, times in ((one, 3), (other, 2)):
        for _ in range(times):
            tally.count(REQUESTS, "/v1/search", "POST", "200")
        totals.add(str(id(tally)), pickle.loads(pickle.dumps(tally.taken())))
        totals.add(str(id(tally)), tally.taken())
    key = ("microtome_requests_total", *labelled(route="/v1/search", method="POST", status="200"))
    assert samples(totals)[key] == 5


def test_what_did_not_arrive_is_handed_over_later():
    tally, totals = Tally(), Totals()
    tally.count(REQUESTS, "/healthz", "GET", "200")
    tally.observe(BATCH_TILES, 7)
    tally.give_back(tally.taken())
    tally.count(REQUESTS, "/healthz", "GET", "200")
    totals.add("a", tally.taken())
    assert (
        samples(totals)[
            "microtome_requests_total", *labelled(route="/healthz", method="GET", status="200")
        ]
        == 2
    )
    assert samples(totals)["microtome_embed_batch_tiles_count",] == 1


@pytest.mark.parametrize(
    ("value", "end"), [(0, "1"), (1, "1"), (1.5, "2"), (1024, "1024"), (1025, "+Inf")]
)
def test_a_value_lies_in_the_bucket_that_ends_at_or_above_it(value, end):
    tally, totals = Tally(), Totals()
    tally.observe(BATCH_TILES, value)
    totals.add("a", tally.taken())
    told = samples(totals)
    ends = [f"{limit:g}" for limit in BATCH_TILES.buckets] + ["+Inf"]
    inside = {one: told["microtome_embed_batch_tiles_bucket", ("le", one)] for one in ends}
    place = ends.index(end)
    assert list(inside.values()) == [0] * place + [1] * (len(ends) - place)
    assert told["microtome_embed_batch_tiles_sum",] == value


def test_gauges_are_of_processes_that_still_report(monkeypatch):
    totals = Totals()
    for source, value in (("a", 3), ("b", 4)):
        totals.add(source, Readings(gauges={(IN_FLIGHT, ()): value, (ATLAS_VERSION, ()): value}))
    assert samples(totals) == {
        ("microtome_requests_in_flight",): 7,
        ("microtome_atlas_version",): 4,
    }
    monkeypatch.setattr(meter, "SILENT_S", -1.0)
    assert samples(totals) == {}


def test_threads_lose_no_count():
    tally, totals = Tally(), Totals()

    def count():
        for _ in range(2000):
            tally.observe(SECONDS, 0.1, "/")
            totals.add("a", tally.taken())

    threads = [threading.Thread(target=count) for _ in range(4)]
    lock, add = threading.Lock(), totals.add

    def one_at_a_time(source, new):  # as the meter's own loop does
        with lock:
            add(source, new)

    totals.add = one_at_a_time
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(totals)["microtome_request_seconds_count", ("route", "/")] == 8000


@pytest.fixture
def measured():
    tally, app = Tally(), FastAPI()

    @app.get("/v1/slides/{slide_id:path}")
    async def slide(slide_id: str) -> str:
        return slide_id

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    app.add_middleware(Measured, tally=tally)
    return tally, TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("GET", "/v1/slides/patient 7", ("/v1/slides/{slide_id:path}", "GET", "200")),
        ("POST", "/v1/slides/patient 7", ("/v1/slides/{slide_id:path}", "POST", "405")),
        ("GET", "/wp-login.php", ("unknown", "GET", "404")),
        ("JEFF", "/wp-login.php", ("unknown", "other", "404")),
        ("GET", "/broken", ("/broken", "GET", "500")),
    ],
)
def test_a_request_is_counted_by_what_is_declared(measured, method, path, counted):
    tally, client = measured
    client.request(method, path)
    taken = tally.taken()
    assert taken.counters == {(REQUESTS, counted): 1}
    assert list(taken.distributions) == [(SECONDS, counted[:1])]
    assert taken.gauges == {(IN_FLIGHT, ()): 0}


def test_a_client_that_went_away_is_counted_so():
    tally = Tally()

    async def endless(*_: object) -> None:
        await asyncio.sleep(60)

    async def given_up() -> None:
        scope = {"type": "http", "method": "POST", "path": "/"}
        task = asyncio.create_task(Measured(endless, tally)(scope, None, None))
        await asyncio.sleep(0.01)
        assert tally.taken().gauges == {(IN_FLIGHT, ()): 1}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(given_up())
    taken = tally.taken()
    assert taken.counters == {(REQUESTS, ("unknown", "POST", "499")): 1}
    assert taken.gauges == {(IN_FLIGHT, ()): 0}
