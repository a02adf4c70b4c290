from __future__ import annotations

import asyncio
import gzip
import json
import math
import time

import numpy as np
import pytest

from microtome.client import AsyncClient, Client, Patience, by_slide, by_tile
from microtome.client.answers import RegionHit, SlideHit, TileHit
from microtome.client.trust import SiteBias, Verdict
from microtome.errors import (
    AnswerUnreadable,
    QueryUnreadable,
    ServerUnreachable,
    SettingError,
    SlideUnknown,
    TokenRefused,
)
from support.scripted_server import Reply, problem, scripted_server

TILE = {"tile_id": "0f" * 16, "slide_id": "a/b", "case_id": None, "x": 1, "y": 2, "size_px": 64}
ANSWER = {
    "level": "tile",
    "model_id": "m",
    "model_name": "tissue",
    "tiles_version": 3,
    "coverage": 1.0,
    "notes": ["a note"],
    "hits": [TILE | {"score": 0.5, "metadata": {"site": "north"}, "of_tomorrow": 1}],
    "next_offset": None,
    "of_tomorrow": [1],
}
QUICK = Patience(deadline_s=60.0, first_s=0.001)


@pytest.fixture
def server():
    with scripted_server() as script:
        yield script


@pytest.fixture
def client(server, monkeypatch):
    monkeypatch.delenv("MICROTOME_TOKEN", raising=False)
    with Client(server.url, patience=QUICK) as client:
        yield client


def body_of(server):
    return json.loads(server.seen[-1][3])


def results(*answers):
    return Reply(body={"results": list(answers)})


def test_an_answer_is_read_into_values(server, client):
    server.replies = [results(ANSWER)]
    answer = client.search_tile("0f" * 16, k=5)
    assert answer.hits == (TileHit(**TILE, score=0.5, metadata={"site": "north"}),)
    assert (answer.model_name, answer.notes, answer.next_offset) == ("tissue", ("a note",), None)
    assert answer.to_json() == ANSWER
    assert answer.rows()[0]["site"] == "north"
    assert (answer.verdict, answer.site_bias, answer.remarks) == (None, (), ())


def test_a_manifests_column_never_stands_for_what_was_found(server, client):
    hit = TILE | {"score": 0.5, "metadata": {"score": "high", "metadata": "m", "site": "north"}}
    server.replies = [results(ANSWER | {"hits": [hit]})]
    (row,) = client.search_tile("0f" * 16, k=5).rows()
    theirs = {"manifest.score": "high", "manifest.metadata": "m", "site": "north"}
    assert row == TILE | {"score": 0.5} | theirs


def test_how_far_hits_can_be_trusted_is_read_into_values(server, client):
    verdict = {
        "no_good_match": False,
        "score": 0.9,
        "p_value": 0.5,
        "threshold": 0.4,
        "alpha": 0.05,
        "tiles": 499,
        "parts": 1,
    }
    bias = {"column": "site", "value": "north", "hits": 9, "same": 3, "expected": 0.5}
    bias |= {"observed": 1 / 3, "excess": -1 / 3}
    told = {"verdict": verdict, "site_bias": [bias], "remarks": ["a good match"]}
    server.replies = [results(ANSWER | told)]
    answer = client.search_tile("0f" * 16, alpha=0.05, site_columns=["site"])
    assert answer.verdict == Verdict(**verdict)
    assert answer.site_bias == (SiteBias(**bias),)
    assert answer.remarks == ("a good match",)
    assert (body_of(server)["alpha"], body_of(server)["site_columns"]) == (0.05, ["site"])


@pytest.mark.parametrize(
    ("ask", "query"),
    [
        (lambda c: c.search_tile("ab"), {"kind": "tile", "tile_id": "ab"}),
        (
            lambda c: c.search_region("a/b", (1, 2, 3, 4)),
            {"kind": "region", "slide_id": "a/b", "x": 1, "y": 2, "width_px": 3, "height_px": 4},
        ),
        (
            lambda c: c.search_polygon("a", [(0, 0), (9, 0), (9, 9.5)]),
            {"kind": "polygon", "slide_id": "a", "corners": [[0, 0], [9, 0], [9, 9.5]]},
        ),
        (lambda c: c.search_slide("a"), {"kind": "slide", "slide_id": "a"}),
        (lambda c: c.search_case("1"), {"kind": "case", "case_id": "1"}),
        (
            lambda c: c.search_vector(np.eye(2, dtype=np.float32)),
            {"kind": "vector", "vectors": [[1, 0], [0, 1]]},
        ),
    ],
)
def test_each_query_is_sent_as_the_api_takes_it(server, client, ask, query):
    server.replies = [results(ANSWER)]
    ask(client)
    assert server.seen[-1][:2] == ("POST", "/v1/search")
    assert body_of(server) == {"queries": [query]}


def test_options_are_sent_as_the_api_takes_them(server, client):
    server.replies = [results(ANSWER)]
    client.search_tile(
        "ab",
        k=3,
        level="slide",
        filter=[("site", "=", "north"), ("age", "in", [1, 2])],
        spread=("case_id", 1),
        min_score=0.2,
        exclude="case",
    )
    assert body_of(server) == {
        "queries": [{"kind": "tile", "tile_id": "ab"}],
        "k": 3,
        "level": "slide",
        "filter": [
            {"field": "site", "operator": "=", "value": "north"},
            {"field": "age", "operator": "in", "value": [1, 2]},
        ],
        "spread": {"field": "case_id", "most": 1},
        "min_score": 0.2,
        "exclude": "case",
    }


def test_slides_and_regions_are_read_too(server, client):
    match = {"query_tile": None, "tile": TILE, "score": 0.9}
    slide = {"slide_id": "a", "case_id": "1", "score": 0.7, "slides": ["a"], "evidence": [match]}
    corners = [[0, 0], [9, 0], [9, 9]]
    region = {
        "slide_id": "a",
        "case_id": None,
        "polygon": corners,
        "score": 0.8,
        "angle_deg": 90.0,
        "tiles": [TILE | {"score": 0.7}],
    }
    server.replies = [
        results(
            ANSWER | {"level": "slide", "hits": [slide]},
            ANSWER | {"level": "region", "hits": [region]},
        )
    ]
    slides, regions = client.search_many([by_slide("a"), by_tile("ab")])
    (hit,), (found,) = slides.hits, regions.hits
    assert isinstance(hit, SlideHit)
    assert hit.evidence[0].tile == TileHit(**TILE)
    assert isinstance(found, RegionHit)
    assert found.polygon == ((0, 0), (9, 0), (9, 9))
    assert found.tiles == (TileHit(**TILE, score=0.7),)


def test_a_picture_is_sent_without_its_name(server, client, tmp_path):
    server.replies = [results(ANSWER)]
    file = tmp_path / "Mrs Miller.png"
    file.write_bytes(b"pixels")
    client.search_image(file, k=2)
    method, path, headers, body = server.seen[-1]
    assert (method, path) == ("POST", "/v1/search/image")
    assert headers["Content-Type"].startswith("multipart/form-data")
    assert b"pixels" in body
    assert b'{"k": 2}' in body
    assert b"Miller" not in body


@pytest.mark.parametrize("name", ["no such.png", "a\0b", "."])
def test_a_picture_that_cannot_be_read_is_said(client, name):
    with pytest.raises(QueryUnreadable, match="can't be read"):
        client.search_image(name)


@pytest.mark.parametrize(
    ("slide_id", "path"),
    [
        ("a b/ü#1?.svs", "/v1/slides/a%20b%2F%C3%BC%231%3F.svs/thumbnail"),
        ("../../etc", "/v1/slides/..%2F..%2Fetc/thumbnail"),
        ("100%", "/v1/slides/100%25/thumbnail"),
    ],
)
def test_an_id_is_one_part_of_a_path(server, client, slide_id, path):
    server.replies = [Reply(body=b"jpeg", headers={"Content-Type": "image/jpeg", "ETag": '"1"'})]
    picture = client.thumbnail(slide_id)
    assert (picture.data, picture.media_type, picture.etag) == (b"jpeg", "image/jpeg", '"1"')
    assert server.seen[-1][1] == path


def test_a_busy_server_is_asked_again(server, client):
    server.replies = [Reply(503), Reply(0), problem(429, "rate-exceeded"), results(ANSWER)]
    assert client.search_tile("ab").model_id == "m"
    assert len(server.seen) == 4


def test_what_it_refuses_is_raised_as_by_the_library(server, client):
    server.replies = [problem(404, "slide-unknown", "no such slide")]
    with pytest.raises(SlideUnknown, match="no such slide"):
        client.slide("a")
    assert len(server.seen) == 1


def test_a_server_that_never_answers_is_given_up(server):
    server.replies = [Reply(delay_s=30)]
    started = time.monotonic()
    with (
        Client(server.url, patience=Patience(deadline_s=0.2)) as client,
        pytest.raises(ServerUnreachable, match="in time"),
    ):
        client.atlas()
    assert time.monotonic() - started < 20


def test_nobody_there_is_said(server):
    with (
        Client("http://127.0.0.1:1", patience=Patience(tries=2, first_s=0.01)) as client,
        pytest.raises(ServerUnreachable, match="can't be reached"),
    ):
        client.atlas()


@pytest.mark.parametrize("body", [[], {}, {"results": [{}]}, {"results": 7}, b"<html>", b"\xff"])
def test_an_answer_of_something_else_is_said(server, client, body):
    server.replies = [Reply(body=body)]
    with pytest.raises(AnswerUnreadable):
        client.search_tile("ab")


def test_the_token_is_sent_and_shown_nowhere(server, monkeypatch):
    server.replies = [problem(401, "token-refused")]
    monkeypatch.setenv("MICROTOME_TOKEN", "of-the-environment")
    for token, sent in ((None, "of-the-environment"), ("mine", "mine")):
        with Client(server.url, token) as client, pytest.raises(TokenRefused) as refused:
            client.atlas()
        assert server.seen[-1][2]["Authorization"] == f"Bearer {sent}"
        assert sent not in repr(client) + str(refused.value)


@pytest.mark.parametrize("token", ["a b", "a\nb", "ü"])
def test_what_is_no_token_is_refused_unseen(token):
    with pytest.raises(SettingError) as refused:
        Client("http://server", token)
    assert token not in str(refused.value)


@pytest.mark.parametrize("address", ["", "server:80", "ftp://server", "http://", "http://a:b@c"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SettingError, match="http"):
        Client(address)


@pytest.mark.parametrize(("reply", "is_ready"), [(Reply(), True), (Reply(503), False)])
def test_readiness_is_asked_once(server, client, reply, is_ready):
    server.replies = [reply]
    assert client.ready() is is_ready
    assert [one[1] for one in server.seen] == ["/readyz"]


def test_the_client_for_asyncio_does_the_same(server, monkeypatch):
    monkeypatch.delenv("MICROTOME_TOKEN", raising=False)
    page = {"slides": [{"slide_id": "a", "width_px": 1, "height_px": 2}], "total": 1, "next": None}
    server.replies = [Reply(503), results(ANSWER), Reply(body=page), problem(404, "slide-unknown")]

    async def asked():
        async with AsyncClient(server.url, patience=QUICK) as client:
            answer = await client.search_slide("a", k=1)
            slides = await client.slides(limit=1, conditions=[("age", ">", 3)])
            with pytest.raises(SlideUnknown):
                await client.slide("b")
            return answer, slides

    answer, slides = asyncio.run(asked())
    assert answer.to_json() == ANSWER
    assert slides.slides[0].height_px == 2
    assert "filter=%5B%7B%22field" in server.seen[2][1]


def test_both_clients_offer_the_same():
    def offered(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert offered(Client) == offered(AsyncClient)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_score": math.nan}, "min_score"),
        ({"query_mpp": math.inf}, "query_mpp"),
        ({"alpha": -math.inf}, "alpha"),
        ({"filter": [("age", "<", math.nan)]}, "value of age"),
        ({"filter": [("age", "in", [1, math.nan])]}, "value of age"),
    ],
)
def test_what_is_no_number_is_named_and_not_sent(server, client, options, says):
    with pytest.raises(SettingError, match=f"{says} must be a finite number"):
        client.search_tile("ab", **options)
    assert server.seen == []


def test_a_corner_must_lie_somewhere(server, client):
    with pytest.raises(QueryUnreadable, match="finite"):
        client.search_polygon("a", [(0, 0), (9, math.nan), (9, 9)])
    assert server.seen == []


@pytest.mark.parametrize("value", [math.nan, math.inf, "x", None])
def test_vectors_that_are_none_are_not_sent(server, client, value):
    with pytest.raises(QueryUnreadable, match="vectors"):
        client.search_vector([[0.5, value]])
    assert not server.seen


@pytest.mark.parametrize("slide_id", [".", ".."])
def test_an_id_that_a_path_can_not_hold_is_unknown(server, client, slide_id):
    with pytest.raises(SlideUnknown):
        client.slide(slide_id)
    with pytest.raises(SlideUnknown):
        client.thumbnail(slide_id)
    assert not server.seen


DRIPPING = Reply(body=b" " * 2000, drip_s=0.05)
IMPATIENT = Patience(deadline_s=0.5)


def test_the_deadline_holds_for_the_whole_of_an_answer(server):
    server.replies = [DRIPPING]
    started = time.monotonic()
    client = Client(server.url, patience=IMPATIENT)
    with client, pytest.raises(ServerUnreachable, match="in time"):
        client.atlas()

    assert time.monotonic() - started < 30


def test_the_deadline_holds_for_the_whole_of_an_awaited_answer(server):
    async def ask() -> None:
        async with AsyncClient(server.url, patience=IMPATIENT) as client:
            await client.atlas()

    server.replies = [DRIPPING]
    started = time.monotonic()
    with pytest.raises(ServerUnreachable, match="in time"):
        asyncio.run(ask())

    assert time.monotonic() - started < 30


def test_a_compressed_answer_is_read(server, client):
    packed = gzip.compress(json.dumps({"results": [ANSWER]}).encode())
    server.replies = [Reply(body=packed, headers={"Content-Encoding": "gzip"})]

    assert client.search_tile("0f" * 16).to_json() == ANSWER
