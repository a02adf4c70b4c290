"""Replicas behind HAProxy: asked while they are there, and nobody waits for one that isn't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import httpx
import psutil
import pytest

from microtome_serve import front, front_targets
from microtome_serve.access import AuthSettings
from microtome_serve.config_file import Place
from microtome_serve.front_config import Lane
from microtome_serve.front_targets import commands, replica_ports, settled
from microtome_serve.settings import Scale, ServeSettings
from support.fronted import Behind, fronted, listening
from support.serving import free_port
from support.waiting import until

SETTINGS = ServeSettings(
    "atlas", auth=AuthSettings(open=True), search=Scale(max_ongoing=4), ingress=Scale()
)
pytestmark = pytest.mark.skipif(front.program() is None, reason="no HAProxy for this platform")


@pytest.fixture
def ports(monkeypatch) -> list[int]:
    """What Serve's controller names, at the moment."""
    named: list[int] = []
    monkeypatch.setattr(front, "_on_head", lambda: True)
    monkeypatch.setattr(front_targets, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(front_targets, "replica_ports", lambda _: list(named))
    return named


@pytest.fixture
def url(ports) -> Iterator[str]:
    with fronted(SETTINGS) as url:
        yield url


def names(url: str) -> set[str]:
    """Who answers, of several who come one after the other."""
    with httpx.Client(headers={"Connection": "close"}, timeout=60) as client:
        return {client.get(f"{url}/v1/atlas").text for _ in range(8)}


def test_replicas_answer_as_they_come_and_go_and_serve_s_proxy_where_there_is_none(url, ports):
    assert names(url) == {"serve"}
    with ExitStack() as stack:
        a, b = free_port(), free_port()
        stack.enter_context(listening(a, "a"))
        ports[:] = [a]
        until(lambda: names(url) == {"a"})
        stack.enter_context(listening(b, "b"))
        ports[:] = [a, b]
        until(lambda: names(url) == {"a", "b"})
        ports[:] = [b]
        until(lambda: names(url) == {"b"})
        ports[:] = []
        until(lambda: names(url) == {"serve"})


def test_a_replica_that_is_lost_costs_no_further_request(url, ports):
    a, b = free_port(), free_port()
    with listening(a, "a"):
        with listening(b, "b"):
            ports[:] = [a, b]
            until(lambda: names(url) == {"a", "b"})
        assert names(url) == {"a"}  # though the controller still names both
    assert names(url) == {"serve"}


def test_replicas_share_what_is_let_in_at_once(url, ports):
    with ExitStack() as stack, ThreadPoolExecutor(10) as ten:
        stack.callback(Behind.let.set)
        for name in ("a", "b"):
            ports.append(free_port())
            stack.enter_context(listening(ports[-1], name))
        until(lambda: names(url) == {"a", "b"})
        asking = partial(httpx.post, f"{url}/v1/search", content=b"{}", timeout=60)
        asked = [ten.submit(asking) for _ in range(10)]
        until(lambda: sum(one.done() for one in asked) == 4)
        inside = Counter(Behind.inside)
        Behind.let.set()
        statuses = Counter(one.result().status_code for one in asked)

    assert inside == {("/v1/search", "a"): 2, ("/v1/search", "b"): 2}
    assert statuses == {200: 6, 503: 4}  # four inside and two that waited


def test_a_haproxy_that_was_started_anew_is_told_of_them(url, ports):
    port = free_port()
    with listening(port, "a"):
        ports[:] = [port]
        until(lambda: names(url) == {"a"})
        (running,) = (one for one in psutil.Process().children() if one.name() == "haproxy")
        running.kill()

        def again() -> bool:
            try:
                return names(url) == {"a"}
            except httpx.TransportError:
                return False

        until(again)


@pytest.mark.ray
def test_a_serve_whose_proxy_listens_alone_has_no_replicas_to_ask(server, serve_port):
    assert httpx.get(f"{server}/healthz", timeout=60).status_code == 200
    assert replica_ports(Place(port=serve_port)) == []


# slots before, ports named, slots after
SETTLED = {
    "the first": ([None, None, None], [1], [1, None, None]),
    "one more": ([1, None, None], [2, 1], [1, 2, None]),
    "one less": ([1, 2, None], [2], [None, 2, None]),
    "another one": ([1, 2, None], [3, 2], [3, 2, None]),
    "too many": ([1, 2, 3], [1, 2, 3, 4], [1, 2, 3]),
    "none": ([1, 2, 3], [], [None, None, None]),
}


@pytest.mark.parametrize(("before", "named", "after"), SETTLED.values(), ids=SETTLED)
def test_whoever_is_there_stays_in_its_slot(before, named, after):
    assert settled(before, named) == after


# at once, replicas, each
SHARES = [(16, 1, 16), (16, 2, 8), (16, 3, 6), (1, 4, 1), (16, 0, 16)]


@pytest.mark.parametrize(("at_once", "replicas", "each"), SHARES)
def test_a_share_is_never_nothing_and_all_shares_are_no_less_than_the_whole(
    at_once, replicas, each
):
    assert Lane("searches", at_once=at_once).share(replicas) == each


def test_a_slot_that_is_free_takes_no_requests():
    told = commands(Lane("searches", at_once=3), ("one", "two"), (30_000, None))

    assert told == [
        "set server searches/one addr 127.0.0.1 port 30000",
        "set maxconn server searches/one 3",
        "set server searches/one state ready",
        "set server searches/two state maint",
    ]
