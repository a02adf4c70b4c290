"""What clients send by mistake or on purpose, over real HTTP: a clear refusal, and soon.

Wrong queries have their tests in `test_search_routes`, ids in `test_picture_routes`, other cohorts
in `test_cohorts`, an atlas that changes or goes in `test_going_on`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from microtome_serve.filters import Condition
from microtome_serve.tokens import TokenBook, Wanted
from support.guarded import LIMITS
from support.odd_pictures import odd_pictures
from support.served_atlas import MODEL, encoder_of
from support.waiting import until

pytestmark = [pytest.mark.ray]

PICTURES = odd_pictures()
SOON_S = 20.0
"""For a busy machine; a bomb that is decoded takes longer anywhere."""
VECTOR = {"kind": "vector", "vectors": [[1.0] * encoder_of(MODEL).card.dim]}


@pytest.fixture(scope="module")
def token(guarded):
    return guarded.token("bad input")


@pytest.fixture(scope="module")
def client(guarded, token):
    with guarded.client(token) as client:
        yield client


def told(answer: httpx.Response) -> dict:
    """The problem document of a refusal."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    for inner in ("Traceback", "/site-packages/", "ray::", ".py"):
        assert inner not in answer.text
    return document


@pytest.mark.parametrize("path", ["/v1/search/image", "/v1/embed"])
@pytest.mark.parametrize(
    "name", ["rgb", "grey", "16-bit", "cmyk", "transparent", "palette", "tiny", "wide"]
)
def test_an_odd_picture_is_a_picture(client, path, name):
    answer = client.post(path, files={"images": PICTURES[name]})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/v1/search/image", "/v1/embed"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text", "no image"),
        ("empty", "no image"),
        ("svg", "no image"),
        ("gif", "no image"),
        ("cut", "no image"),
        ("animated", "several pictures"),
        ("two in one", "several pictures"),
        ("pages", "several pictures"),
        ("bomb", "megapixels"),
        ("large", "megapixels"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_place(client, path, name, said):
    began = time.monotonic()
    sent = [("images", ("Smith^John.png", PICTURES[one])) for one in ("rgb", name)]
    answer = client.post(path, files=sent)
    document = told(answer)
    assert (answer.status_code, document["cause"]) == (422, "query-unreadable")
    assert said in document["detail"]
    assert "picture 2" in document["detail"]
    assert "Smith" not in answer.text
    assert time.monotonic() - began < SOON_S


def test_too_many_pictures_are_refused(client):
    sent = [("images", ("x.png", PICTURES["tiny"]))] * (LIMITS.images + 1)
    assert told(client.post("/v1/embed", files=sent))["cause"] == "too-large"


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"files": {"other": b"x"}},
        {"data": {"images": "text"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"--b\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"json": {"images": []}},
    ],
)
def test_an_upload_that_is_none_is_refused(client, how):
    answer = client.post("/v1/search/image", **how)
    assert answer.status_code in {400, 422}
    told(answer)


NOT_JSON = {
    "nothing": b"",
    "cut": b'{"queries": [',
    "not a text": b"\xff\xfe\x00",
    "deep": b"[" * 50_000,
    "deep inside": b'{"queries": ' + b'{"a":' * 15_000,
    "a number of a million digits": b'{"k": ' + b"9" * 90_000 + b"}",
    "a list": b"[]",
    "a null": b"null",
    "twice": b'{"queries": []}{"queries": []}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_a_body_that_is_no_question_is_refused(client, body):
    began = time.monotonic()
    answer = client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    told(answer)
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "application/x-yaml"])
def test_a_question_in_another_form_is_refused(client, kind):
    body = json.dumps({"queries": [VECTOR]}).encode()
    answer = client.post("/v1/search", content=body, headers={"Content-Type": kind})
    assert answer.status_code in {415, 422}
    told(answer)


@pytest.mark.parametrize(
    "conditions",
    [
        [{"field": "site", "operator": "=", "value": None}],
        [{"field": "site", "operator": "LIKE", "value": "n%"}],
        [{"field": "site", "operator": "= 'x' OR 1", "value": 1}],
        [{"field": "site", "operator": "=", "value": {"a": 1}}],
        [{"field": "site", "operator": "=", "value": "a\nb"}],
        [{"field": "site", "operator": "in", "value": ["x"] * 1001}],
        [{"field": "site", "operator": "in", "value": [["x"]]}],
        [{"field": "site", "operator": "=", "value": "x" * 1001}],
        [{"field": "age", "operator": "=", "value": "61"}],
        [{"field": "age", "operator": "<", "value": 1e300}],
        [{"field": "tissue", "operator": ">", "value": True}],
        [{"field": "vector", "operator": "=", "value": 1}],
        [{"field": "uri", "operator": ">", "value": "/"}],
        [{"field": "_rowid", "operator": "=", "value": 1}],
        [{"field": "site` = 'x' OR `site", "operator": "=", "value": "x"}],
        [{"operator": "=", "value": "x"}],
        [{"field": "site", "operator": "=", "value": "x"}] * 33,
        "site = 'north'",
        {"field": "site"},
    ],
)
def test_a_filter_that_cannot_be_is_refused_wherever_one_is_taken(client, conditions):
    searched = client.post("/v1/search", json={"queries": [VECTOR], "filter": conditions})
    listed = client.get("/v1/slides", params={"filter": json.dumps(conditions)})
    assert searched.status_code == listed.status_code == 422
    told(searched)
    told(listed)


INJECTIONS = [
    "x' OR '1'='1",
    "x') OR (1=1",
    "x' OR 1=1 --",
    "x'; DROP TABLE tiles; --",
    "x` OR `site",
    "x\\' OR true --",
    "x＇ OR true --",
    "?",
    "$1",
]


@pytest.mark.parametrize("value", INJECTIONS)
def test_a_value_of_a_filter_finds_nothing_more(client, value):
    conditions = [{"field": "site", "operator": "=", "value": value}]
    searched = client.post("/v1/search", json={"queries": [VECTOR], "filter": conditions})
    assert searched.json()["results"][0]["hits"] == []
    listed = client.get("/v1/slides", params={"filter": json.dumps(conditions)})
    assert listed.json()["total"] == 0


@pytest.mark.parametrize("name", ["exclude", "spread", "model", "level"])
@pytest.mark.parametrize("value", [*INJECTIONS, "group:site` = 'x' OR `site", "group:", "x" * 5000])
def test_no_option_is_a_way_in(client, name, value):
    said = {"field": value, "most": 1} if name == "spread" else value
    answer = client.post("/v1/search", json={"queries": [VECTOR], name: said})
    assert answer.status_code in {404, 422}, answer.text
    told(answer)


# --- bodies -------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(guarded, token):
    """The client waits for a go-ahead that never comes; nothing of the 10 GB was sent."""
    with connected(guarded) as raw:
        raw.sendall(head(guarded, token, length=10 << 30))
        assert answered(raw).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("path", "kind", "most"),
    [
        ("/v1/search", "application/json", LIMITS.body_bytes),
        ("/v1/embed", "multipart/form-data; boundary=b", LIMITS.upload_bytes),
    ],
)
def test_a_body_that_does_not_say_its_size_is_refused_once_it_is_too_large(
    client, path, kind, most
):
    def pieces():
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
        for _ in range(200):
            yield b"x" * 10_000

    try:
        answer = client.post(path, content=pieces(), headers={"Content-Type": kind})
    except (httpx.WriteError, httpx.ReadError):
        answer = None  # refused while it was still being sent
    assert answer is None or told(answer)["cause"] == "too-large"
    assert client.get("/v1/atlas").status_code == 200


def test_an_upload_without_a_token_is_not_read(guarded):
    with connected(guarded) as raw:
        raw.sendall(head(guarded, "mt_wrong", length=LIMITS.body_bytes))
        assert answered(raw).startswith(b"HTTP/1.1 401 ")


# --- slow clients -------------------------------------------------------------------------------


def head(guarded, token: str, length: int) -> bytes:
    return (
        f"POST {urlsplit(guarded.url).path}/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def connected(guarded) -> socket.socket:
    place = urlsplit(guarded.url)
    return socket.create_connection((place.hostname, place.port), timeout=60)


def answered(raw: socket.socket) -> bytes:
    """What comes back, to the end of the connection; it must end."""
    whole = b""
    while piece := raw.recv(65_536):
        whole += piece
    return whole


def test_a_body_that_trickles_or_never_comes_is_refused_and_the_connection_ends(guarded, token):
    with connected(guarded) as trickling, connected(guarded) as silent:
        for raw in (trickling, silent):
            raw.sendall(head(guarded, token, length=1000))
        stop = threading.Event()

        def trickle():
            with suppress(OSError):  # refused
                while not stop.wait(0.1):
                    trickling.sendall(b" ")

        sending = threading.Thread(target=trickle)
        sending.start()
        try:
            assert answered(silent).startswith(b"HTTP/1.1 408 ")
            with suppress(ConnectionResetError):  # it ended while a byte was on its way
                assert answered(trickling).startswith(b"HTTP/1.1 408 ")
        finally:
            stop.set()
            sending.join()


def test_slow_clients_keep_nobody_waiting(guarded, token, client):
    """Bodies that never come, and heads that never end."""
    with ExitStack() as stack:
        for number in range(60):
            raw = stack.enter_context(connected(guarded))
            whole = head(guarded, token, length=1000)
            raw.sendall(whole if number % 2 else whole[:40])
        assert client.get("/v1/slides?limit=1").status_code == 200


# --- tokens -------------------------------------------------------------------------------------


def test_a_token_works_until_it_is_revoked_or_expires(guarded):
    book = TokenBook(guarded.tokens)
    revoked = guarded.token("to be revoked")
    _, expiring = book.make(Wanted("to expire", expires_days=2 / 86_400))
    (made,) = (one for one in book.read() if one.name == "to be revoked")
    with guarded.client(revoked) as client:
        assert client.get("/v1/atlas").status_code == 200
        book.revoke(made.id)
        until(lambda: client.get("/v1/atlas").status_code == 401)
        answers = [client.get("/v1/atlas")]
    with guarded.client(expiring) as client:
        until(lambda: client.get("/v1/atlas").status_code == 401)
    for wrong in (expiring, "mt_" + "x" * 43, "x.y.z", None):
        with guarded.client(wrong) as client:
            answers.append(client.get("/v1/atlas"))
    assert {(one.status_code, one.content) for one in answers} == {(401, answers[0].content)}


def test_a_token_whose_rows_are_none_gets_empty_answers(guarded):
    token = guarded.token("empty", rows=[Condition("site", "=", "no such site")])
    with guarded.client(token) as client:
        assert client.get("/v1/slides").json() == {"slides": [], "total": 0, "next": None}
        found = client.post("/v1/search", json={"queries": [VECTOR]})
        assert found.json()["results"][0]["hits"] == []
        shown = client.post("/v1/search/image", files={"images": PICTURES["rgb"]})
        assert shown.json()["results"][0]["hits"] == []


def test_a_token_whose_rows_the_atlas_cannot_tell_gets_no_answer(guarded):
    token = TokenBook(guarded.tokens).make(Wanted("ward", rows=(Condition("ward", "=", "7"),)))[1]
    with guarded.client(token) as client:
        until(lambda: client.get("/v1/slides").status_code != 401)  # it knows the token
        answer = client.get("/v1/slides")
    assert (answer.status_code, told(answer)["cause"]) == (503, "access-unavailable")
    assert "ward" not in answer.text
