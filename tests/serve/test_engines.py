"""Questions to one atlas: what is found at each level, and what is there for whom."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.errors import (
    DeadlinePassed,
    FilterInvalid,
    MicrotomeError,
    RequestTooLarge,
    SettingError,
    SlideUnknown,
    TileNotFound,
)
from microtome.search import patience
from microtome.search.patience import Patience
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import (
    CaseQuery,
    ImageQuery,
    RegionQuery,
    SlideQuery,
    TileQuery,
    VectorQuery,
)
from microtome_serve import engines as engines_module
from microtome_serve.access import Access
from microtome_serve.asking import Ask, EmbedWanted
from microtome_serve.engines import Engines
from microtome_serve.filters import Condition
from support.bare_embed import bare_embed
from support.served_atlas import BY_ID, MODEL, SITES, encoder_of, index_served

EVERYTHING = Access("all", "operator")
NORTH = Access("north", "reader", "site = 'north'")
NOTHING = Access("none", "reader", "site = 'nowhere at all'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    index_served(folder)
    return folder


@pytest.fixture(scope="module")
def engines(folder):
    return Engines(Atlas.open(str(folder / "atlas")), {"model": encoder_of(MODEL)})


def tile_of(engines, slide_id: str) -> str:
    tiles = engines.atlas.tiles
    rows = tiles.to_table(columns=["tile_id"], filter=f"slide_id = '{slide_id}'")
    return rows["tile_id"][0].as_py()


def everything_alike(engines, access: Access, query=None, **asked) -> dict:
    query = query or VectorQuery(np.ones((1, 268), np.float32))
    return engines.answer(access, Ask(query, k=100, **asked), "model")


# level, what its hits are of, without those of the atlas that have no such thing
LEVELS = {
    "tiles by vector": ("tile", lambda e: VectorQuery(np.ones((1, 268), np.float32))),
    "tiles by tile": ("tile", lambda e: TileQuery(tile_of(e, "north/a"))),
    "tiles by region": ("tile", lambda e: RegionQuery("north/a", 0, 0, 64, 64)),
    "slides by slide": ("slide", lambda e: SlideQuery("north/a")),
    "cases by case": ("case", lambda e: CaseQuery("case 1")),
    "slides by tile": ("slide", lambda e: TileQuery(tile_of(e, "north/a"))),
    "slides by vector": ("slide", lambda e: VectorQuery(np.ones((1, 268), np.float32))),
    "regions by region": ("region", lambda e: RegionQuery("north/a", 0, 0, 64, 64)),
    "regions by polygon": (
        "region",
        lambda e: PolygonQuery("north/a", ((0, 0), (64, 0), (64, 64))),
    ),
}


def slides_in(answer: dict) -> set[str]:
    return {
        slide for hit in answer["hits"] for slide in (hit.get("slides") or [hit.get("slide_id")])
    }


@pytest.mark.parametrize(("level", "query"), LEVELS.values(), ids=LEVELS)
def test_only_what_is_there_for_them_is_found(engines, level, query):
    everywhere = slides_in(everything_alike(engines, EVERYTHING, query(engines), level=level))
    north = slides_in(everything_alike(engines, NORTH, query(engines), level=level))

    assert everywhere - {"north/a", "north/b"}
    assert north <= {"north/a", "north/b"}


@pytest.mark.parametrize(("level", "query"), LEVELS.values(), ids=LEVELS)
def test_for_whom_nothing_is_there_nothing_is_found_or_to_ask_with(engines, level, query):
    asked = query(engines)
    if isinstance(asked, VectorQuery):
        answer = everything_alike(engines, NOTHING, asked, level=level)
        assert (answer["hits"], answer["coverage"]) == ([], 1)
        return

    with pytest.raises((TileNotFound, SlideUnknown)):
        everything_alike(engines, NOTHING, asked, level=level)


UNSEEN = {
    "tile": (TileNotFound, lambda e: TileQuery(tile_of(e, "south/c"))),
    "region": (SlideUnknown, lambda e: RegionQuery("south/c", 0, 0, 64, 64)),
    "slide": (SlideUnknown, lambda e: SlideQuery("south/c")),
    "slide without a site": (SlideUnknown, lambda e: SlideQuery("nowhere")),
    "case": (SlideUnknown, lambda e: CaseQuery("case 2")),
}
UNKNOWN = {
    "tile": TileQuery("0" * 32),
    "region": RegionQuery("no slide", 0, 0, 64, 64),
    "slide": SlideQuery("no slide"),
    "slide without a site": SlideQuery("no slide"),
    "case": CaseQuery("no case"),
}


@pytest.mark.parametrize("kind", UNSEEN)
def test_what_is_not_there_for_them_is_unknown_in_the_same_words(engines, kind):
    error, unseen = UNSEEN[kind]
    level = kind if kind in {"slide", "case"} else "tile"
    with pytest.raises(error) as hidden:
        everything_alike(engines, NORTH, unseen(engines), level=level)
    with pytest.raises(error) as unknown:
        everything_alike(engines, NORTH, UNKNOWN[kind], level=level)

    assert str(hidden.value) == str(unknown.value)


def test_a_filter_can_not_bring_back_what_is_not_there(engines):
    south = (Condition("site", "=", "south"),)

    assert everything_alike(engines, NORTH, conditions=south)["hits"] == []


def test_one_request_s_filter_is_compiled_once(engines, monkeypatch):
    compiled = []
    real = engines_module.compile_filter
    monkeypatch.setattr(
        engines_module, "compile_filter", lambda *given: compiled.append(given) or real(*given)
    )
    query = VectorQuery(np.ones((1, 268), np.float32))
    asks = [Ask(query, conditions=(Condition("age", "in", [40, 71]),)) for _ in range(5)]

    engines.answer_together([(EVERYTHING, ask, "model") for ask in asks])

    assert len(compiled) == 1


def test_conditions_that_python_takes_for_equal_are_not(engines):
    assert everything_alike(engines, EVERYTHING, conditions=(Condition("age", ">=", 1),))["hits"]
    with pytest.raises(FilterInvalid):
        everything_alike(engines, EVERYTHING, conditions=(Condition("age", ">=", True),))


def test_counts_are_of_what_is_there_for_them(engines):
    everything, north, nothing = (engines.facts.of(one) for one in (EVERYTHING, NORTH, NOTHING))

    assert [one["tiles"] for one in (everything, north, nothing)] == [22, 10, 0]
    assert [one["slides"] for one in (everything, north, nothing)] == [5, 2, 0]
    assert [one["cases"] for one in (everything, north, nothing)] == [3, 1, 0]
    assert [one["models"][0]["tiles"] for one in (everything, north, nothing)] == [22, 10, 0]


def test_coverage_is_of_what_is_there_for_them(tmp_path):
    north, south = (BY_ID[slide_id] for slide_id in ("north/a", "south/c"))
    bare_embed(index_served(tmp_path, [north]), encoder_of("tissue"))
    uri = index_served(tmp_path, [south])  # without vectors of that model
    engines = Engines(Atlas.open(uri), {"model": encoder_of("tissue")})
    vector = VectorQuery(np.ones((1, encoder_of("tissue").card.dim), np.float32))

    assert everything_alike(engines, NORTH, vector)["coverage"] == 1
    assert everything_alike(engines, EVERYTHING, vector)["coverage"] == 0.6


def test_what_is_asked_together_is_answered_as_if_alone(engines):
    asked = [(EVERYTHING, Ask(TileQuery(tile_of(engines, slide)), k=3), "model") for slide in SITES]
    asked.insert(1, (NORTH, asked[-1][1], "model"))  # a slide of the south
    asked.insert(3, (NORTH, asked[0][1], "model"))

    together = engines.answer_together(asked)

    assert isinstance(together[1], TileNotFound)
    alone = [engines.answer(*one) for place, one in enumerate(asked) if place != 1]
    assert [one for place, one in enumerate(together) if place != 1] == alone


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "another"},
        {"exclude": "group:site` = '' OR `site"},
        {"spread": ("site` = '' OR `site", 1)},
        {"level": "region"},
        {"level": "slide", "min_score": 0.5},
        {"query": ImageQuery("picture 1", b"no picture")},
    ],
)
def test_no_refusal_says_where_the_atlas_lies(engines, folder, asked):
    with pytest.raises(MicrotomeError) as refused:
        everything_alike(engines, EVERYTHING, **asked)

    assert str(folder) not in str(refused.value)


def picture_of(side_px: int) -> ImageQuery:
    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px), "pink").save(file, "png")
    return ImageQuery("a picture", data=file.getvalue())


def test_pictures_are_embedded_up_to_so_many_tiles(folder):
    few = Engines(Atlas.open(str(folder / "atlas")), {"model": encoder_of(MODEL)}, most_tiles=2)

    assert len(few.embed(EmbedWanted((picture_of(64),) * 2), "model")["images"]) == 2
    with pytest.raises(RequestTooLarge, match="2 tiles"):
        few.embed(EmbedWanted((picture_of(64),) * 3), "model")


def test_nothing_is_embedded_that_nobody_waits_for(engines):
    late = Patience(until_s=0.0)
    with pytest.raises(DeadlinePassed), patience.shown(late):
        engines.embed(EmbedWanted((picture_of(64),)), "model")


def test_pictures_and_drawn_regions_have_no_place_outside_of_the_atlas(engines):
    with pytest.raises(SlideUnknown):
        everything_alike(engines, EVERYTHING, RegionQuery("/etc/passwd", 0, 0, 9, 9))
    with pytest.raises(SettingError):
        everything_alike(engines, EVERYTHING, SlideQuery("north/a"), level="tile")
