"""HAProxy before a server: what it lets in, what it refuses, and how it tells."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from microtome_serve import front, front_config
from microtome_serve.access import AuthSettings
from microtome_serve.config_file import Place
from microtome_serve.limits import Limits
from microtome_serve.settings import Scale, ServeSettings
from support.fronted import Behind, fronted, listening
from support.serving import free_port
from support.waiting import until

SETTINGS = ServeSettings(
    "atlas",
    auth=AuthSettings(open=True),
    search=Scale(max_ongoing=2),  # so one waits besides
    ingress=Scale(max_ongoing=3, max_queued=2),
    limits=Limits(body_s=1.0, deadline_s=60.0),  # HAProxy waits longer than anyone here
)
pytestmark = pytest.mark.skipif(front.program() is None, reason="no HAProxy for this platform")


@pytest.fixture
def url(monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(front, "_on_head", lambda: True)
    with fronted(SETTINGS) as url:
        yield url


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=60.0)


def post(url: str, content: bytes = b"{}") -> httpx.Response:
    return httpx.post(url, content=content, timeout=60.0)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["cause"]


def test_what_is_too_much_is_refused_while_the_rest_waits_and_others_are_answered(url):
    with ThreadPoolExecutor(8) as eight:
        asked = [eight.submit(post, f"{url}/v1/search") for _ in range(8)]
        until(lambda: sum(one.done() for one in asked) >= 5 and Behind.inside.total() >= 2)
        inside = dict(Behind.inside)
        refused = [one.result() for one in asked if one.done()]
        others = [get(f"{url}{path}").status_code for path in ("/healthz", "/v1/atlas")]
        Behind.let.set()
        answers = [one.result().status_code for one in asked]

    assert inside == {("/v1/search", "serve"): 2}
    assert [problem(answer) for answer in refused] == [(503, "overloaded")] * 5
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert others == [200, 200]
    assert sorted(answers) == [200] * 3 + [503] * 5


def test_what_serve_refuses_in_plain_text_is_told_as_a_problem(url):
    assert problem(get(f"{url}/v1/full")) == (503, "overloaded")


def test_a_refusal_reaches_who_still_sends(url):
    with ThreadPoolExecutor(4) as four:
        asked = [four.submit(post, f"{url}/v1/search") for _ in range(4)]
        until(lambda: any(one.done() for one in asked))  # refused, since two are in and one waits
        answer = post(f"{url}/v1/search/image", bytes(8_000_000))
        Behind.let.set()

    assert problem(answer) == (503, "overloaded")


def test_slow_headers_are_given_up(monkeypatch):
    monkeypatch.setattr(front, "_on_head", lambda: True)
    monkeypatch.setattr(front_config, "HEADERS_S", 1)
    with fronted(SETTINGS) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            started = time.monotonic()
            slow.sendall(b"GET /healthz HTTP/1.1\r\n")
            told = b"".join(iter(lambda: slow.recv(4096), b""))

    assert time.monotonic() - started < 30
    assert b" 408 " in told.splitlines()[0]


def test_a_server_that_is_gone_is_told_as_a_problem(monkeypatch):
    monkeypatch.setattr(front, "_on_head", lambda: True)
    place = Place(port=free_port())
    with front.in_front(SETTINGS, place):
        answer = get(f"{place.url}/v1/atlas")

    assert problem(answer) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_nobody_else_takes_the_port_where_serve_s_proxy_is_to_listen(monkeypatch):
    monkeypatch.setattr(front, "_on_head", lambda: True)
    with front.in_front(SETTINGS, Place(port=free_port())) as behind:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((behind.host, behind.port))
        with listening(behind.port, "serve"):
            assert get(f"{behind.url}/healthz").text == "serve"


def test_it_comes_back_should_it_die_and_ends_with_the_block(monkeypatch):
    monkeypatch.setattr(front, "_on_head", lambda: True)

    def ours() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [one for one in children if one.name() == "haproxy"]

    with fronted(SETTINGS) as url:
        (first,) = ours()
        first.kill()
        until(lambda: answers(url))
        (second,) = ours()

    assert first.pid != second.pid
    assert not second.is_running()


def answers(url: str) -> bool:
    try:
        return get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "localhost"])
def test_it_takes_what_it_is_told(host, tmp_path):
    settings = ServeSettings("atlas", auth=AuthSettings(tokens="tokens.json"))
    file = tmp_path / "haproxy.cfg"
    file.write_text(
        front_config.config_of(settings, Place(host, 8000), Place(port=8001), tmp_path / "control")
    )
    command = [front.program(), "-c", "-f", file]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr
    assert "[WARNING]" not in checked.stderr


def test_without_the_program_or_on_another_machine_serve_listens_itself(monkeypatch):
    place = Place(port=free_port())
    monkeypatch.setattr(front, "program", lambda: None)
    with front.in_front(SETTINGS, place) as behind:
        assert behind == place
