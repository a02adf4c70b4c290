"""A token that is limited to one cohort gets nothing of another, through any route.

Every operation of the OpenAPI document must be among `ASKED`, so a new route fails until it is.
What names a thing of the other cohort is answered, byte for byte, as if there were no such thing;
and no answer at all holds anything of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from microtome.atlas.atlas import Atlas
from microtome_serve.filters import Condition
from support.served_atlas import BY_ID, GRID, MODEL, SITES, encoder_of

pytestmark = [pytest.mark.ray]

NORTH = Condition("site", "=", "north")
LEVELS = ("tile", "region", "slide", "case")
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}


@dataclass(frozen=True)
class Thing:
    """What a request can name."""

    slide_id: str
    tile_id: str
    case_id: str


UNKNOWN = Thing("nobody/z", "0" * 32, "case 99")
Ask = Callable[[httpx.Client, Thing], httpx.Response]


def get(path: str, **params) -> Ask:
    return lambda client, thing: client.get(path.format(**vars(thing)), params=params)


def search(query: dict, **options) -> Ask:
    """A search, for each thing, with its ids in the query and in the options."""

    def ask(client: httpx.Client, thing: Thing) -> httpx.Response:
        named = json.dumps({"queries": [query], **options})
        for name, value in vars(thing).items():
            named = named.replace(f"<{name}>", value)
        return client.post("/v1/search", content=named, headers=JSON)

    return ask


JSON = {"Content-Type": "application/json"}
REGION = {"kind": "region", "slide_id": "<slide_id>", "x": 0, "y": 0, "width_px": 64}
QUERIES = [
    {"kind": "tile", "tile_id": "<tile_id>"},
    REGION | {"height_px": 64},
    {"kind": "polygon", "slide_id": "<slide_id>", "corners": [[0, 0], [64, 0], [64, 64]]},
    {"kind": "slide", "slide_id": "<slide_id>"},
    {"kind": "case", "case_id": "<case_id>"},
]

ASKED: dict[tuple[str, str], list[Ask]] = {
    ("GET", "/v1/slides/{slide_id}"): [get("/v1/slides/{slide_id}")],
    ("GET", "/v1/slides/{slide_id}/thumbnail"): [get("/v1/slides/{slide_id}/thumbnail")],
    ("GET", "/v1/slides/{slide_id}/deepzoom.dzi"): [get("/v1/slides/{slide_id}/deepzoom.dzi")],
    ("GET", "/v1/slides/{slide_id}/deepzoom_files/{level}/{column}_{row}.{format}"): [
        get(f"/v1/slides/{{slide_id}}/deepzoom_files/{level}/0_0.{kind}")
        for level in (0, 3, 6)
        for kind in ("jpeg", "png")
    ],
    ("GET", "/v1/tiles/{tile_id}"): [get("/v1/tiles/{tile_id}")],
    ("GET", "/v1/tiles/{tile_id}/picture"): [
        get("/v1/tiles/{tile_id}/picture"),
        get("/v1/tiles/{tile_id}/picture", format="png", size=32),
    ],
    ("POST", "/v1/search"): [
        search(query, level=level, k=100) for query in QUERIES for level in LEVELS
    ],
}
"""Operations that name a thing, and how each is asked for one."""

NAMELESS = {
    ("GET", "/v1/slides"),
    ("GET", "/v1/atlas"),
    ("POST", "/v1/search/image"),
    ("POST", "/v1/embed"),
}
"""Operations that name none; each has its tests below."""

FOR_OPERATORS = {("GET", "/v1/rollout"), ("POST", "/v1/rollout"), ("GET", "/metrics")}
"""Operations that tell how the server does, and nothing of any row."""


@pytest.fixture(scope="module")
def clients(guarded):
    """Who sees all, who sees the north, and who sees nothing."""
    nothing = Condition("site", "=", "no such site")
    rows = {"all": (), "north": (NORTH,), "nothing": (nothing,)}
    opened = {name: guarded.client(guarded.token(name, rows=one)) for name, one in rows.items()}
    clients = {name: one.__enter__() for name, one in opened.items()}
    yield clients
    for client in opened.values():
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def tiles(served_folder) -> dict[str, list[str]]:
    """Ids of tiles by slide."""
    rows = Atlas.open(str(served_folder / "atlas")).tiles.to_table(columns=["slide_id", "tile_id"])
    by_slide: dict[str, list[str]] = {}
    for row in rows.to_pylist():
        by_slide.setdefault(row["slide_id"], []).append(row["tile_id"])
    return by_slide


@pytest.fixture(scope="module")
def things(tiles) -> dict[str, Thing]:
    """One of each slide."""
    cases = {one: BY_ID[one].case_id or UNKNOWN.case_id for one in tiles}
    return {one: Thing(one, ids[0], cases[one]) for one, ids in tiles.items()}


@pytest.fixture(scope="module")
def others(tiles) -> list[str]:
    """Every text that an answer to the north may not hold."""
    foreign = [one for one in tiles if SITES.get(one) != "north"]
    ids = [tile_id for one in foreign for tile_id in tiles[one]]
    return [*foreign, *ids, "case 2", "case 3", "south"]


@pytest.fixture(scope="module")
def operations(http) -> set[tuple[str, str]]:
    paths = http.get("/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_every_operation_is_looked_at_here(operations):
    assert operations == set(ASKED) | NAMELESS | FOR_OPERATORS | OPEN


def test_no_operation_answers_without_a_token(guarded, operations):
    with guarded.client(None) as client:
        for method, path in sorted(operations - OPEN):
            answer = client.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, (method, path, answer.text)


def test_a_reader_is_no_operator(clients):
    for method, path in sorted(FOR_OPERATORS):
        assert clients["all"].request(method, path, json={}).status_code == 403


@pytest.mark.parametrize(
    ("operation", "ask"),
    [(operation, ask) for operation, asks in ASKED.items() for ask in asks],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_is_another_cohort_s_is_unknown(clients, things, others, operation, ask):
    unknown = ask(clients["north"], UNKNOWN)
    assert 400 <= unknown.status_code < 500
    for name in ("south/c", "south/d", "nowhere"):  # the site of the last isn't known: a null
        answer = ask(clients["north"], things[name])
        assert (answer.status_code, answer.content) == (unknown.status_code, unknown.content)
        assert not held(answer, others)
    for name in things:
        answer = ask(clients["nothing"], things[name])
        assert (answer.status_code, answer.content) == (unknown.status_code, unknown.content)


@pytest.mark.parametrize("operation", sorted(ASKED), ids=lambda value: value[1])
def test_what_is_its_own_is_answered_and_holds_nothing_of_others(
    clients, things, others, operation
):
    """So the refusals above are of the rows, and not of the requests."""
    answered = [ask(clients["north"], things["north/a"]) for ask in ASKED[operation]]
    seen = [ask(clients["all"], things["south/c"]) for ask in ASKED[operation]]
    assert 200 in {one.status_code for one in answered}
    assert [one.status_code for one in answered] == [one.status_code for one in seen]
    for one in answered:
        assert not held(one, others)


def held(answer: httpx.Response, texts: list[str]) -> list[str]:
    """Which of the texts an answer holds anywhere, headers included."""
    whole = answer.content + b"".join(b"\n".join(pair) for pair in answer.headers.raw)
    return [text for text in texts if text.encode() in whole]


def test_lists_and_counts_are_of_its_own(clients, others):
    listed = clients["north"].get("/v1/slides")
    assert [one["slide_id"] for one in listed.json()["slides"]] == ["north/a", "north/b"]
    assert listed.json()["total"] == 2
    assert clients["all"].get("/v1/slides").json()["total"] == 5
    assert clients["nothing"].get("/v1/slides").json() == {"slides": [], "total": 0, "next": None}
    assert not held(listed, others)


def test_pages_have_no_gaps_where_others_slides_are(clients, others):
    client, cursor, seen = clients["north"], None, []
    for _ in range(3):
        page = client.get(
            "/v1/slides", params={"limit": 1} | ({"cursor": cursor} if cursor else {})
        )
        seen += [one["slide_id"] for one in page.json()["slides"]]
        assert page.json()["total"] == 2
        assert not held(page, others)
        cursor = page.json()["next"]
        if cursor is None:
            break
    assert seen == ["north/a", "north/b"]


WIDER = [
    [{"field": "site", "operator": "=", "value": "south"}],
    [{"field": "site", "operator": "!=", "value": "north"}],
    [{"field": "site", "operator": "not_in", "value": ["north"]}],
    [{"field": "site", "operator": "exists", "value": False}],
    [{"field": "slide_id", "operator": "in", "value": ["south/c", "south/d", "nowhere"]}],
    [{"field": "case_id", "operator": "=", "value": "case 2"}],
    [{"field": "age", "operator": "=", "value": 71}],
    [{"field": "site", "operator": "=", "value": "x' OR '1'='1"}],
    [{"field": "site", "operator": "=", "value": "x') OR (site = 'south"}],
]
"""Filters that ask for the others' rows."""


@pytest.mark.parametrize("conditions", WIDER)
def test_a_filter_never_widens_what_there_is(clients, conditions):
    params = {"filter": json.dumps(conditions)}
    page = clients["north"].get("/v1/slides", params=params)
    assert page.json() == {"slides": [], "total": 0, "next": None}
    found = clients["north"].post("/v1/search", json={"queries": [vector()], "filter": conditions})
    assert [one["hits"] for one in found.json()["results"]] == [[]]


def test_the_facts_count_what_is_its_own(clients, tiles, others):
    facts = {name: client.get("/v1/atlas") for name, client in clients.items()}
    north = sum(len(ids) for slide, ids in tiles.items() if SITES.get(slide) == "north")
    told = facts["north"].json()
    assert (told["slides"], told["tiles"], told["cases"]) == (2, north, 1)
    assert [one["tiles"] for one in told["models"]] == [north]
    assert facts["all"].json()["tiles"] > north
    assert [facts["nothing"].json()[name] for name in ("slides", "tiles", "cases")] == [0, 0, 0]
    assert not held(facts["north"], others)


def vector() -> dict:
    grey = np.full((1, GRID.tile_px, GRID.tile_px, 3), (220, 190, 130), np.uint8)
    return {"kind": "vector", "vectors": encoder_of(MODEL).encode(grey).tolist()}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exact": True},
        {"exclude": "case"},
        {"spread": {"field": "site", "most": 1}},
        {"min_score": -1.0},
        {"alpha": 0.2},
        {"site_columns": ["site", "age"]},
        {"offset": 3},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_a_search_finds_its_own_and_says_nothing_of_others(clients, others, level, options):
    asked = {"queries": [vector()], "level": level, "k": 100, **options}
    seen = clients["all"].post("/v1/search", json=asked)
    answer = clients["north"].post("/v1/search", json=asked)
    assert answer.status_code == seen.status_code
    assert not held(answer, others)
    if seen.status_code == 200:
        hits = answer.json()["results"][0]["hits"]
        assert len(hits) <= len(seen.json()["results"][0]["hits"])
        nothing = clients["nothing"].post("/v1/search", json=asked).json()["results"][0]
        assert nothing["hits"] == []
        assert nothing["coverage"] in {0.0, 1.0}  # a share of the others' tiles would tell of them


def test_how_far_hits_can_be_trusted_is_told_of_its_own_alone(clients, things, others):
    asked = search(QUERIES[0], alpha=0.5, site_columns=["site", "age"], exclude="slide", k=100)
    answer = asked(clients["north"], things["north/a"])
    told = answer.json()["results"][0]
    assert not held(answer, others)
    assert told["verdict"] is None
    assert any("not judged" in note and "left out" in note for note in told["notes"])
    assert told["site_bias"] == []  # its only other slide is of the query's case
    everything = asked(clients["all"], things["north/a"]).json()["results"][0]
    assert {bias["column"] for bias in everything["site_bias"]} == {"site", "age"}


def test_several_queries_of_which_one_is_another_s(clients, things):
    def asked(foreign: Thing) -> bytes:
        own = {"kind": "tile", "tile_id": things["north/a"].tile_id}
        named = {"kind": "tile", "tile_id": foreign.tile_id}
        return clients["north"].post("/v1/search", json={"queries": [own, named]}).content

    assert asked(things["south/c"]) == asked(UNKNOWN)


def test_a_picture_finds_its_own(clients, others, things):
    shown = clients["all"].get(f"/v1/tiles/{things['south/c'].tile_id}/picture?format=png")
    sent = {"images": ("x.png", shown.content, "image/png")}
    for level in LEVELS:
        options = {"options": json.dumps({"k": 100, "level": level})}
        answer = clients["north"].post("/v1/search/image", files=sent, data=options)
        assert not held(answer, others)
    hits = clients["north"].post("/v1/search/image", files=sent).json()["results"][0]["hits"]
    assert {one["slide_id"] for one in hits} == {"north/a", "north/b"}
    embedded = [clients[name].post("/v1/embed", files=sent).content for name in ("north", "all")]
    assert embedded[0] == embedded[1]  # what comes of a picture is no row


def test_an_etag_that_was_seen_opens_nothing(clients, things):
    path = f"/v1/tiles/{things['south/c'].tile_id}/picture"
    etag = clients["all"].get(path).headers["ETag"]
    assert clients["all"].get(path, headers={"If-None-Match": etag}).status_code == 304
    assert clients["north"].get(path, headers={"If-None-Match": etag}).status_code == 404


@pytest.mark.parametrize(
    "slide_id",
    [
        "north/../south/c",
        "north%2F..%2Fsouth%2Fc",
        "..%2Fsouth%2Fc",
        "./south/c",
        "south//c",
        "SOUTH/C",
        "south/c%00",
        "south/c ",
        "south%5Cc",
        "%2e%2e/%2e%2e/etc/passwd",
        "file:///etc/passwd",
        "' OR '1'='1",
    ],
)
def test_no_spelling_of_an_id_leads_elsewhere(clients, others, slide_id):
    for end in ("", "/thumbnail", "/deepzoom.dzi", "/deepzoom_files/0/0_0.jpeg"):
        answer = clients["north"].get(f"/v1/slides/{slide_id}{end}")
        assert answer.status_code in {404, 422}, answer.text
        assert "root:" not in answer.text
