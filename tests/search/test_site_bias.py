from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from microtome.atlas.index_building import refresh_index
from microtome.atlas.writer import open_writer
from microtome.errors import FilterInvalid, SettingError
from microtome.search.atlas_bias import BiasSettings, atlas_bias
from microtome.search.query import TileQuery, VectorQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome.search.site_bias import FindableTiles, excess, usual_columns
from microtome.search.spread import Spread
from support import sited_atlas
from support.sited_atlas import MadeSlide, make_atlas, tile_id

DIM = 8
SITES = ("north", "south", "west")


# observed, expected, excess
@pytest.mark.parametrize(
    ("observed", "expected", "told"),
    [(1.0, 0.25, 1.0), (0.25, 0.25, 0.0), (0.625, 0.25, 0.5), (0.0, 0.5, -1.0), (1.0, 1.0, None)],
)
def test_the_excess_is_what_is_left_of_chance(observed, expected, told):
    assert excess(observed, expected) == told


def fan(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    slides = [  # tile 0 asks; the angles give the ranking
        MadeSlide("own", fan(0, 1), case_id="A", site="x"),
        MadeSlide("own-2", fan(2), case_id="A", site="x"),
        MadeSlide("x-1", fan(3, 4), case_id="B", site="x"),
        MadeSlide("y-1", fan(5), case_id="C", site="y", scanner="s"),
        MadeSlide("unknown", fan(6), case_id="D"),
        MadeSlide("y-2", fan(7, 8, 9, 10, 11), case_id="E", site="y", scanner="s"),
    ]
    return Searcher(make_atlas(str(tmp_path_factory.mktemp("bias") / "atlas"), slides))


# k and what is left out, hits of other cases with a site, those of the own, chance
@pytest.mark.parametrize(
    ("k", "further", "hits", "same", "expected"),
    [
        (7, {"exclude": "case"}, 6, 2, 2 / 8),
        (5, {"exclude": "case"}, 4, 2, 2 / 8),
        (6, {}, 3, 2, 2 / 8),  # of the own case are found, and don't count
        (7, {"exclude": "slide"}, 5, 2, 2 / 8),
        (5, {"exclude": "case", "where": "slide_id <> 'y-2'"}, 3, 2, 2 / 3),
        (5, {"exclude": "group:site"}, 4, 0, 0.0),
    ],
)
def test_of_one_query_it_is_counted_among_what_could_be_found(
    searcher, k, further, hits, same, expected
):
    settings = SearchSettings(k=k, site_columns=("site",), **further)
    (bias,) = searcher.search(TileQuery(tile_id(0)), settings).site_bias
    assert (bias.column, bias.value, bias.hits, bias.same) == ("site", "x", hits, same)
    assert bias.expected == pytest.approx(expected)
    told = pytest.approx((same / hits - expected) / (1 - expected)) if hits >= 5 else None
    assert bias.excess == told


def test_all_tiles_are_counted_without_reading_them(searcher):
    findable = FindableTiles(searcher._atlas)
    counted = findable.of(None, ("site",), None)
    assert counted.share("site", "x", ()) == pytest.approx(5 / 11)
    assert findable.of(None, ("site",), None) is counted


def test_of_hits_that_are_spread_nothing_is_told_and_that_is_said(searcher):
    settings = SearchSettings(k=7, exclude="case", site_columns=("site",), spread=Spread("site", 1))
    result = searcher.search(TileQuery(tile_id(0)), settings)
    assert result.site_bias == ()
    assert any("how much of a ranking site explains" in note for note in result.notes)


@pytest.mark.parametrize(
    ("number", "columns", "known"),
    [
        (0, ("site", "scanner"), ["site"]),  # the query's scanner is unknown
        (6, ("site", "scanner"), []),  # nothing is known of the query's slide
        (5, ("scanner", "site"), ["scanner", "site"]),
        (0, (), []),
    ],
)
def test_only_what_is_known_of_the_query_is_told(searcher, number, columns, known):
    settings = SearchSettings(k=9, exclude="slide", site_columns=columns)
    result = searcher.search(TileQuery(tile_id(number)), settings)
    assert [bias.column for bias in result.site_bias] == known


def test_a_query_from_outside_has_no_site(searcher):
    settings = SearchSettings(site_columns=("site",))
    assert searcher.search(VectorQuery(fan(0)), settings).site_bias == ()


def test_a_day_of_scanning_is_told_as_the_hits_tell_it(tmp_path, monkeypatch):
    dated = sited_atlas.COLUMNS.append(pa.field("day", pa.date32()))
    monkeypatch.setattr(sited_atlas, "COLUMNS", dated)
    slides = [MadeSlide(f"s{number}", fan(number), case_id=f"c{number}") for number in range(6)]
    atlas = make_atlas(str(tmp_path / "atlas"), slides)
    with open_writer(atlas.uri, "test") as writer:
        for table in ("tiles", "slides"):
            writer.update(table, {"day": "date '2026-01-02'"}, "slide_id < 's3'")
            writer.update(table, {"day": "date '2026-01-03'"}, "slide_id >= 's3'")
    settings = SearchSettings(exclude="case", site_columns=("day",))
    result = Searcher(atlas).search(TileQuery(tile_id(0)), settings)
    (bias,) = json.loads(json.dumps(result.to_json(), allow_nan=False))["site_bias"]
    assert (bias["value"], bias["hits"], bias["same"]) == ("2026-01-02", 5, 2)
    assert bias["expected"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("column", ["slide_id", "case_id"])
def test_slide_and_case_are_no_sites(searcher, column):
    with pytest.raises(SettingError, match=f"{column} tells no site"):
        searcher.search(TileQuery(tile_id(0)), SearchSettings(site_columns=(column,)))


def test_a_column_that_is_not_there_is_named(searcher):
    with pytest.raises(SettingError, match="'hospital'"):
        searcher.search(VectorQuery(fan(0)), SearchSettings(site_columns=("hospital",)))


def made(uri: str, cases: int = 60, tiles: int = 4, by_site: float = 0.0):
    """Cases of three sites; a tile lies by its site's own axis as far as `by_site` says."""
    draw = np.random.default_rng(1)
    slides = []
    for number in range(cases):
        site = number % 3
        vectors = draw.normal(size=(tiles, DIM))
        vectors[:, site] += by_site
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        slides.append(
            MadeSlide(f"s{number}", vectors, case_id=f"c{number}", site=SITES[site], scanner="one")
        )
    return make_atlas(uri, slides)


def measured(atlas, column: str = "site", **settings):
    (model_id,) = atlas.models
    return atlas_bias(atlas, column, model_id, BiasSettings(**settings))


def test_where_the_site_says_nothing_the_excess_is_nought(tmp_path):
    bias = measured(made(str(tmp_path / "atlas")), k=5)
    assert (bias.tiles, bias.cases) == (200, 60)
    assert bias.expected == pytest.approx(19 / 59)
    assert bias.low < 0 < bias.high
    assert abs(bias.excess) < 0.1


def test_where_the_site_says_all_the_excess_is_one(tmp_path):
    bias = measured(made(str(tmp_path / "atlas"), by_site=1000.0), k=5)
    assert (bias.observed, bias.excess, bias.low, bias.high) == (1.0, 1.0, 1.0, 1.0)


def test_in_between_it_lies_within_its_interval_and_grows(tmp_path):
    weak = measured(made(str(tmp_path / "weak"), by_site=1.5))
    strong = measured(made(str(tmp_path / "strong"), by_site=3.0))
    assert weak.low <= weak.excess <= weak.high
    assert 0 < weak.low < weak.high < strong.low < strong.high <= 1


def test_the_index_and_a_scan_tell_the_same(tmp_path):
    atlas = made(str(tmp_path / "atlas"), by_site=2.0)
    scanned = measured(atlas, k=3)
    refresh_index(atlas, *atlas.models, least_rows=1)
    assert measured(atlas, k=3).excess == pytest.approx(scanned.excess, abs=0.01)


def test_a_filter_holds_for_what_is_drawn_and_what_is_found(tmp_path):
    atlas = made(str(tmp_path / "atlas"), by_site=1000.0)
    bias = measured(atlas, where="site <> 'west'")
    assert bias.cases == 40
    assert bias.expected == pytest.approx(19 / 39)


@pytest.mark.parametrize(
    ("column", "where", "problem"),
    [
        ("hospital", None, "'hospital', which the atlas"),
        ("scanner", None, "doesn't tell tiles of different cases apart"),
        ("batch", None, "doesn't tell tiles of different cases apart"),
        ("site", "case_id = 'c0'", "doesn't tell tiles of different cases apart"),
    ],
)
def test_a_column_that_tells_nothing_is_refused(tmp_path, column, where, problem):
    with pytest.raises(SettingError, match=problem):
        measured(made(str(tmp_path / "atlas")), column, where=where)


def test_a_wrong_filter_is_quoted(tmp_path):
    with pytest.raises(FilterInvalid, match="'sites = 1'"):
        measured(made(str(tmp_path / "atlas")), where="sites = 1")


def test_columns_are_known_by_their_usual_names(searcher):
    assert usual_columns(searcher._atlas) == ("site", "scanner")
