from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.atlas.mosaic_building import refresh_mosaics
from microtome.atlas.mosaic_files import FOLDER
from microtome.atlas.writer import open_writer
from microtome.errors import (
    FilterInvalid,
    ModelMismatch,
    QueryUnreadable,
    SettingError,
    SlideUnknown,
)
from microtome.search import slide_bank, slide_methods
from microtome.search.query import CaseQuery, ImageQuery, SlideQuery, TileQuery, VectorQuery
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from support.coloured_atlas import COLOURS, GRID, MeanColour, Quilt, add_slide, make_atlas
from support.made_atlas import MadeAtlas
from support.many_slides import Kinds, make_slides, slide_name

NAMES = {"p": "pink", "u": "purple", "t": "tan"}
METHODS = ("mosaic", "mean", "votes")


def quilt(slide_id: str, colours: str, case_id: str | None = None, organ: str = "skin") -> Quilt:
    """A slide of one row of tiles, whose colours are given by letters."""
    return Quilt(slide_id, (tuple(NAMES[letter] for letter in colours),), case_id, organ, None)


QUILTS = (
    quilt("mix", "ppuu", "case 1"),
    quilt("same", "uppu", "case 2"),
    quilt("large", "pppuuuttttttttttttttt", "case 3", "liver"),
    quilt("tans", "tttt", "case 1"),
    quilt("pinks", "pppp", "case 2", "liver"),
    quilt("lone", "t"),
)
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


@pytest.fixture
def own_atlas(tmp_path):
    """One that a test may change."""
    return make_atlas(tmp_path, MeanColour(), QUILTS)


def search(searcher, query, **settings):
    return searcher.search(query, SlideSettings(**settings))


def names(result) -> list[str]:
    return [hit.slide_id or hit.case_id for hit in result.hits]


def scores(result) -> dict[str, float]:
    return {hit.slide_id or hit.case_id: hit.score for hit in result.hits}


def model_of(atlas) -> str:
    (model_id,) = atlas.models
    return model_id


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


@pytest.mark.parametrize("method", METHODS)
def test_stored_mosaics_answer_as_those_made_now(own_atlas, searcher, method):
    made = search(searcher, SlideQuery("mix"), method=method)
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    stored = search(SlideSearcher(own_atlas), SlideQuery("mix"), method=method)
    assert names(stored) == names(made)
    assert scores(stored) == pytest.approx(scores(made), abs=1e-3)


def test_a_slide_that_came_later_is_found_and_one_that_left_is_not(own_atlas, tmp_path):
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    searcher = SlideSearcher(own_atlas)
    assert "late" not in names(searcher.search(SlideQuery("mix")))
    late = quilt("late", "ppuu")
    add_slide(own_atlas, MeanColour(), late, late.write(tmp_path))
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    assert set(names(search(searcher, SlideQuery("mix"), k=3))) == {"mix", "late", "large"}
    assert "same" not in names(searcher.search(SlideQuery("mix")))


def test_a_slide_whose_content_changed_is_compared_as_it_now_is(own_atlas, tmp_path):
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    changed = quilt("same", "tttt")
    add_slide(own_atlas, MeanColour(), changed, changed.write(tmp_path))
    near = scores(SlideSearcher(own_atlas).search(SlideQuery("tans")))
    assert near["same"] > 0.99


def test_slides_beyond_those_made_now_are_told(own_atlas, monkeypatch):
    monkeypatch.setattr(slide_bank, "MOST_MADE", 2)
    told = []
    result = SlideSearcher(own_atlas, tell=told.append).search(SlideQuery("mix"))
    assert len(result.hits) == 2
    assert result.coverage == pytest.approx(2 / 6)
    assert any("4 of 6 slides have no mosaic yet" in note for note in result.notes)
    assert len(told) == 2
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    assert SlideSearcher(own_atlas).search(SlideQuery("mix")).coverage == 1.0


@pytest.mark.parametrize("name", ["vectors.npy", "row_ids.npy", "mosaics.json"])
def test_damaged_mosaics_are_not_used_and_that_is_said(own_atlas, name):
    model_id = model_of(own_atlas)
    refresh_mosaics(own_atlas, model_id, least_tiles=1)
    (path,) = (Path(own_atlas.uri) / FOLDER / model_id).glob(f"*/{name}")
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(data)
    result = search(SlideSearcher(own_atlas), SlideQuery("mix"), k=2)
    assert names(result) == ["mix", "same"]
    assert any(f"its {name} is damaged" in note for note in result.notes)


def test_an_atlas_as_it_once_was_is_searched_as_it_was(own_atlas):
    pinned = replace(
        own_atlas, pinned={t: own_atlas.dataset(t).version for t in ("tiles", "slides")}
    )
    with open_writer(own_atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.delete(table, "slide_id = 'same'")
    refresh_mosaics(own_atlas, model_of(own_atlas), least_tiles=1)
    assert names(search(SlideSearcher(pinned), SlideQuery("mix"), k=2)) == ["mix", "same"]


@pytest.mark.parametrize("method", ["mosaic", "mean"])
@pytest.mark.parametrize("level", ["slide", "case"])
def test_candidates_that_are_looked_up_are_the_nearest_of_many(many, monkeypatch, method, level):
    monkeypatch.setattr(slide_methods, "CANDIDATES", {"vector": 60, "mean": 200})
    searcher, shares = SlideSearcher(many), []
    for number in range(0, 600, 60):
        asked = {"method": method, "level": level, "k": 5}
        quick = search(searcher, SlideQuery(slide_name(number)), **asked)
        exact = search(searcher, SlideQuery(slide_name(number)), exact=True, **asked)
        assert (quick.path, exact.path) == ("index", "exact")
        assert names(quick)[0] == names(exact)[0]
        assert [len(hit.slides) for hit in quick.hits] == [2 if level == "case" else 1] * 5
        shares.append(len(set(names(quick)) & set(names(exact))) / 5)
    assert np.mean(shares) >= 0.9


def test_a_filter_that_leaves_few_is_answered_by_comparing_them_all(many, monkeypatch):
    monkeypatch.setattr(slide_methods, "CANDIDATES", {"vector": 60, "mean": 200})
    asked = {"where": f"slide_id < '{slide_name(50)}'", "k": 60}
    result = search(SlideSearcher(many), SlideQuery(slide_name(7)), **asked)
    assert result.path == "exact"
    assert sorted(names(result)) == [slide_name(number) for number in range(50)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """600 slides of 20 tiles, of 20 kinds, with vocabularies."""
    kinds = Kinds(dim=32, kinds=20, tissues=100, mixed=6)
    atlas = make_slides(str(tmp_path_factory.mktemp("many") / "atlas"), kinds, 600, tiles=20)
    refresh_mosaics(atlas, model_of(atlas), least_tiles=1, least_slides=10)
    return atlas
