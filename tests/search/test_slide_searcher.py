from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from microtome.errors import (
    FilterInvalid,
    ModelMismatch,
    QueryUnreadable,
    SettingError,
    SlideUnknown,
)
from microtome.search.query import CaseQuery, ImageQuery, SlideQuery, TileQuery, VectorQuery
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from support.coloured_atlas import COLOURS, GRID, MeanColour, make_atlas
from support.made_atlas import MadeAtlas
from support.quilts import METHODS, QUILTS, names, quilt, scores, search

BY_ID = {one.slide_id: one for one in QUILTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slides")


@pytest.fixture(scope="module")
def atlas(folder):
    return make_atlas(folder, MeanColour(), QUILTS)


@pytest.fixture(scope="module")
def searcher(atlas):
    return SlideSearcher(atlas, MeanColour())


def colour_of(hit) -> str:
    return BY_ID[hit.slide_id].colour_at(hit.x, hit.y)


def tile_of(atlas, slide_id, x=0) -> TileQuery:
    where = f"slide_id = '{slide_id}' AND x = {x}"
    return TileQuery(atlas.tiles.to_table(columns=["tile_id"], filter=where)[0][0].as_py())


@pytest.mark.parametrize("method", METHODS)
def test_a_slide_of_two_tissues_finds_the_one_that_mixes_them_alike(searcher, method):
    result = search(searcher, SlideQuery("mix"), method=method, k=3)
    assert names(result)[:2] == ["mix", "same"]
    assert (result.method, result.coverage, result.notes) == (method, 1.0, ())
    assert result.hits[1].metadata == {"organ": "skin", "age": None}


@pytest.mark.parametrize("method", ["mosaic", "mean"])
def test_a_slide_is_its_own_first_hit_with_score_one(searcher, method):
    hit = search(searcher, SlideQuery("mix"), method=method).hits[0]
    assert (hit.slide_id, hit.case_id, hit.slides) == ("mix", "case 1", ("mix",))
    assert hit.score == pytest.approx(1, abs=1e-6)


def test_what_a_slide_holds_besides_costs_it_nothing_by_mosaic_but_much_by_mean(searcher):
    mosaic = scores(search(searcher, SlideQuery("mix"), method="mosaic"))
    mean = scores(search(searcher, SlideQuery("mix"), method="mean"))
    assert mosaic["large"] == pytest.approx(mosaic["same"], abs=0.002)
    assert mean["large"] < mean["same"] - 0.05


def test_a_mean_between_two_tissues_is_taken_for_their_mixture_and_a_mosaic_is_not(tmp_path):
    between = np.mean([COLOURS["pink"], COLOURS["purple"]], axis=0).astype(int)
    whole = (quilt("mix", "pu"), quilt("other", "uppppp"), quilt("between", "tt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COLOURS, "tan", tuple(between.tolist()))
        searcher = SlideSearcher(make_atlas(tmp_path, MeanColour(), whole))
    assert names(search(searcher, SlideQuery("mix"), method="mean"))[1] == "between"
    assert names(search(searcher, SlideQuery("mix"), method="mosaic"))[1] == "other"


def test_votes_are_not_won_by_size(searcher):
    """Of 21 tiles three are pink: as many as any other slide but one has."""
    result = search(searcher, tile_of(searcher._atlas, "lone"), k=3)
    assert result.method == "votes"
    assert names(result)[:2] == ["lone", "tans"]


def test_the_evidence_are_tiles_that_match(searcher):
    for method in METHODS:
        for hit in search(searcher, SlideQuery("mix"), method=method, k=2, evidence=3).hits:
            matches = hit.evidence
            assert 1 <= len(matches) <= 3
            assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)
            assert len({m.tile.tile_id for m in matches}) == len(matches)
            for match in matches:
                assert match.query_tile.slide_id == "mix"
                assert match.tile.slide_id == hit.slide_id
                assert colour_of(match.query_tile) == colour_of(match.tile)
                assert match.tile.score == match.score > 0.99


def test_cases_join_their_slides(searcher):
    result = search(searcher, SlideQuery("mix"), level="case", method="mean")
    by_name = {hit.case_id or hit.slide_id: hit for hit in result.hits}
    assert by_name["case 1"].slides == ("mix", "tans")
    assert by_name["case 1"].slide_id is None
    assert by_name["case 1"].metadata == {"organ": "skin", "age": None}
    assert by_name["case 2"].metadata["organ"] is None, "its slides don't agree"
    assert by_name["lone"].slides == ("lone",)
    assert any("1 of the hits are slides of unknown case" in note for note in result.notes)


@pytest.mark.parametrize("method", METHODS)
def test_a_case_asks_with_all_its_slides(searcher, method):
    result = search(searcher, CaseQuery("case 1"), level="case", method=method)
    assert names(result)[0] == "case 1"
    asked = {match.query_tile.slide_id for hit in result.hits for match in hit.evidence}
    assert asked == {"mix", "tans"}


@pytest.mark.parametrize(
    ("query", "exclude", "gone"),
    [
        (SlideQuery("mix"), "slide", {"mix"}),
        (SlideQuery("mix"), "case", {"mix", "tans"}),
        (SlideQuery("lone"), "case", {"lone"}),  # its case is unknown
        (SlideQuery("mix"), "group:organ", {"mix", "same", "tans", "lone"}),
        (CaseQuery("case 1"), "case", {"mix", "tans"}),
        (CaseQuery("case 1"), "slide", {"mix", "tans"}),
        (CaseQuery("case 2"), "group:organ", {"same", "pinks"}),  # which has no one organ
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_the_querys_own_can_be_left_out(searcher, query, exclude, gone, method):
    result = search(searcher, query, exclude=exclude, method=method)
    assert set(names(result)) == BY_ID.keys() - gone


def test_a_case_that_is_the_whole_atlas_finds_nothing_and_that_is_said(tmp_path):
    alone = (quilt("a", "pu", "case 1"), quilt("b", "t", "case 1"))
    searcher = SlideSearcher(make_atlas(tmp_path, MeanColour(), alone))
    for method in METHODS:
        result = search(searcher, CaseQuery("case 1"), exclude="case", method=method)
        assert result.hits == ()
        assert any("0 of 10 hits" in note for note in result.notes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", ["where", "visible"])
def test_a_filter_finds_its_slides_and_never_shows_others(searcher, method, setting):
    settings = {setting: "organ = 'liver'", "method": method, "level": "case"}
    query = SlideQuery("large")
    result = search(searcher, query, **settings)
    assert set(names(result)) == {"case 2", "case 3"}
    told = json.dumps(result.to_json())
    for hidden in BY_ID.keys() - {"large", "pinks"}:
        assert f'"{hidden}"' not in told
    assert all(hit.metadata["organ"] == "liver" for hit in result.hits)
    assert result.coverage == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_visible_cant_be_asked_with_either(searcher, method):
    visible = {"visible": "organ = 'liver'", "method": method}
    for query in (SlideQuery("mix"), CaseQuery("case 1"), SlideQuery("nowhere")):
        with pytest.raises(SlideUnknown, match=query.text.partition(":")[2]):
            search(searcher, query, **visible)
    result = search(searcher, CaseQuery("case 2"), **visible)
    asked = {match.query_tile.slide_id for hit in result.hits for match in hit.evidence}
    assert asked == {"pinks"}


@pytest.mark.parametrize("method", METHODS)
def test_a_filter_on_tiles_takes_other_tiles_out_of_slides(searcher, method):
    """From x = 384 on, only the large slide has tiles, and they are tan."""
    result = search(searcher, SlideQuery("mix"), where=f"x >= {6 * GRID.tile_px}", method=method)
    assert names(result) == ["large"]
    assert {colour_of(match.tile) for match in result.hits[0].evidence} == {"tan"}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"where": "organ ="}, FilterInvalid),
        ({"visible": "1 = 1) OR (1 = 1"}, FilterInvalid),
        ({"model_id": "nobody"}, ModelMismatch),
        ({"exclude": "group:nothing"}, SettingError),
    ],
)
def test_settings_that_cant_be_followed_are_refused(searcher, settings, error):
    with pytest.raises(error):
        search(searcher, SlideQuery("mix"), **settings)


@pytest.mark.parametrize(
    "setting",
    [{"k": 0}, {"level": "tile"}, {"method": "magic"}, {"exclude": "all"}, {"evidence": -1}],
)
def test_settings_refuse_what_they_dont_know(setting):
    with pytest.raises(SettingError):
        SlideSettings(**setting)


@pytest.mark.parametrize("query", [SlideQuery("x'y"), CaseQuery("case 9")])
def test_what_the_atlas_doesnt_hold_is_named(searcher, query):
    with pytest.raises(SlideUnknown, match=f"holds no {query.text.replace(':', ' ')}"):
        searcher.search(query)


def test_a_slide_without_tiles_cant_be_asked_with_and_is_not_found(tmp_path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done("a"), made.done("b"), made.empty("bare")])
    searcher = SlideSearcher(made.atlas)
    with pytest.raises(QueryUnreadable, match="slide:bare holds no tiles"):
        searcher.search(SlideQuery("bare"))
    assert set(names(searcher.search(SlideQuery("a")))) == {"a", "b"}


def test_smaller_queries_find_slides_too(atlas, folder, searcher):
    Image.new("RGB", (64, 64), COLOURS["pink"]).save(folder / "pink.png")
    pink = MeanColour().encode(np.full((1, 8, 8, 3), COLOURS["pink"], np.uint8))
    picture, vectors = ImageQuery(str(folder / "pink.png")), VectorQuery(pink)
    for query in (picture, vectors, tile_of(atlas, "mix")):
        for method in METHODS:
            result = search(searcher, query, method=method, exclude="none")
            assert "pinks" in names(result)[:3]
    assert search(searcher, vectors).hits[0].evidence[0].query_tile is None
    tile = search(searcher, tile_of(atlas, "mix"))
    assert tile.tile.slide_id == "mix"
    assert tile.hits[0].evidence[0].query_tile == tile.tile
