from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from PIL import Image

from microtome.errors import (
    DeadlinePassed,
    FilterInvalid,
    ModelMismatch,
    QueryUnreadable,
    SettingError,
)
from microtome.search import patience, region_asked, region_bank, region_check, region_searcher
from microtome.search.patience import Patience
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import ImageQuery, RegionQuery, parse_query
from microtome.search.region_asked import looked_at
from microtome.search.region_eye import Eye
from microtome.search.region_placement import Placement, iou, moved
from microtome.search.region_result import RegionSettings
from microtome.search.region_searcher import RegionSearcher
from microtome.search.region_sheet import region_sheet
from microtome.search.searcher import Searcher
from microtome.search.spread import Spread
from support.coloured_atlas import GRID, MeanColour
from support.patterned_atlas import (
    GLASS,
    TILE_PX,
    Palette,
    Quarters,
    make_patterned,
    pattern,
    turned_crop,
)

SIZE = (280, 230)  # 4.4 × 3.6 tiles
MIDDLE = (431.0, 517.0)  # off the grid of 64 px
PASTED = (300.0, 620.0)  # where slide b holds a turned copy of a's region
TURNED, FLIPPED = 120.0, True
QUICK = 0.2  # of the usual effort, where what is found is plain


def box_around(middle: tuple[float, float], size: tuple[int, int]) -> RegionQuery:
    (x, y), (width, height) = middle, size
    return RegionQuery("a", round(x - width / 2), round(y - height / 2), width, height)


def region_at(middle, size, angle_deg=0.0, flipped=False):
    width, height = size
    outline = shapely.box(-width / 2, -height / 2, width / 2, height / 2)
    return moved(outline, Placement(*middle, angle_deg, flipped))


def as_query(pixels) -> ImageQuery:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return ImageQuery("crop.png", file.getvalue())


def slides() -> dict[str, np.ndarray]:
    """Slide b holds a's region, mirrored and turned; c its tiles in disorder; d is half glass."""
    a, b, c, d = (pattern(seed) for seed in (1, 2, 3, 4))
    wide = int(np.hypot(*SIZE)) + 100
    patch = turned_crop(a, MIDDLE, (wide, wide), TURNED, FLIPPED)
    x, y = (round(place - wide / 2) for place in PASTED)
    b[y : y + wide, x : x + wide] = patch
    rows, columns = np.divmod(np.random.default_rng(0).permutation(20), 5)
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        y, x = TILE_PX * (4 + place // 5), TILE_PX * (4 + place % 5)
        top, left = TILE_PX * (6 + row), TILE_PX * (4 + column)
        c[y : y + TILE_PX, x : x + TILE_PX] = a[top : top + TILE_PX, left : left + TILE_PX]
    d[:, : 8 * TILE_PX] = GLASS
    return {"a": a, "b": b, "c": c, "d": d}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("patterned")


@pytest.fixture(scope="module")
def atlas(folder):
    return make_patterned(folder, Palette(), slides())


@pytest.fixture(scope="module")
def searcher(atlas):
    return RegionSearcher(atlas, Palette())


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeing")
    return RegionSearcher(make_patterned(folder, Quarters(), slides()), Quarters())


@pytest.mark.parametrize(("encoder", "effort"), [("searcher", 0.5), ("seeing", 1.0)])
@pytest.mark.parametrize(
    ("angle", "flipped"), [(0, False), (90, False), (30, False), (90, True), (200, True)]
)
def test_a_turned_or_mirrored_crop_finds_where_it_was_cut(request, encoder, effort, angle, flipped):
    crop = turned_crop(pattern(4), (760.0, 530.0), SIZE, angle, flipped)
    settings = RegionSettings(k=5, effort=effort)
    best = request.getfixturevalue(encoder).search(as_query(crop), settings).hits[0]
    assert best.slide_id == "d"
    true = region_at((760.0, 530.0), SIZE, angle, flipped)
    assert iou(shapely.Polygon(best.polygon), true) >= 0.8
    assert best.flipped == flipped
    assert abs((best.angle_deg - angle + 180) % 360 - 180) < 10


def test_a_drawn_region_finds_itself_first(searcher):
    query = box_around(MIDDLE, SIZE)
    best = searcher.search(query).hits[0]
    assert (best.slide_id, best.angle_deg, best.flipped) == ("a", 0, False)
    assert best.box == (query.x, query.y, query.width_px, query.height_px)
    assert best.score == pytest.approx(1, abs=1e-3)
    assert best.coverage == 1


def test_without_its_own_slide_the_copy_is_found_and_beats_the_same_tiles_in_disorder(searcher):
    hits = searcher.search(box_around(MIDDLE, SIZE), RegionSettings(exclude="slide")).hits
    assert "a" not in {hit.slide_id for hit in hits}
    assert hits[0].slide_id == "b"
    true = region_at(PASTED, SIZE, TURNED, FLIPPED)
    assert iou(shapely.Polygon(hits[0].polygon), true) >= 0.8
    in_disorder = [hit.score for hit in hits if hit.slide_id == "c"]
    assert hits[0].score > max(in_disorder, default=0) + 0.02


def test_the_same_tiles_in_order_score_higher_than_in_disorder(searcher):
    of_both = "slide_id IN ('a', 'c')"
    aligned = RegionQuery("a", 4 * TILE_PX, 6 * TILE_PX, 5 * TILE_PX, 4 * TILE_PX)
    hits = searcher.search(aligned, RegionSettings(effort=QUICK, where=of_both)).hits
    best = {slide: max(h.score for h in hits if h.slide_id == slide) for slide in ("a", "c")}
    assert best["a"] == pytest.approx(1, abs=1e-3)
    assert best["c"] < 0.97


def test_a_drawn_outline_comes_back_as_it_was_drawn(searcher):
    corners = ((300.0, 420.0), (560.0, 400.0), (520.5, 640.0), (330.0, 600.0), (380.0, 500.0))
    result = searcher.search(PolygonQuery("a", corners), RegionSettings(k=3))
    assert result.hits[0].polygon == corners
    assert result.hits[0].score == pytest.approx(1, abs=1e-3)
    for hit in result.hits:
        assert shapely.Polygon(hit.polygon).area == pytest.approx(
            shapely.Polygon(corners).area, rel=1e-3
        )


def test_its_tiles_are_those_that_lie_in_it(searcher):
    quick = RegionSettings(k=1, effort=QUICK)
    best = searcher.search(box_around(MIDDLE, SIZE), quick).hits[0]
    region = shapely.Polygon(best.polygon)
    assert len(best.tiles) == region_check.TILES
    for tile in best.tiles:
        square = shapely.box(tile.x, tile.y, tile.x + tile.size_px, tile.y + tile.size_px)
        assert tile.slide_id == "a"
        assert region.intersection(square).area >= 0.5 * square.area
        assert tile.score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("most", [0.0, 0.3])
def test_hits_overlap_no_more_than_allowed(searcher, most):
    hits = searcher.search(
        box_around(MIDDLE, SIZE), RegionSettings(effort=QUICK, most_overlap=most)
    ).hits
    assert len(hits) >= 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for place, hit in enumerate(hits):
        for other in hits[:place]:
            if hit.slide_id == other.slide_id:
                both = shapely.Polygon(hit.polygon), shapely.Polygon(other.polygon)
                assert iou(*both) <= most + 1e-6


def test_where_tiles_are_lacking_a_place_counts_for_less(searcher):
    query = box_around(MIDDLE, SIZE)
    left_of_it = f"slide_id = 'a' AND x < {round(MIDDLE[0]) - TILE_PX // 2}"
    result = searcher.search(
        query, RegionSettings(k=9, effort=QUICK, where=left_of_it, most_overlap=1.0)
    )
    own = next(hit for hit in result.hits if hit.box[:2] == (query.x, query.y))
    assert own.similarity == pytest.approx(1, abs=1e-3)
    assert own.coverage == pytest.approx(0.5, abs=0.1)
    assert own.score == pytest.approx(own.similarity * own.coverage)


def test_a_filter_holds_and_one_that_nothing_passes_finds_nothing(searcher):
    query = box_around(MIDDLE, SIZE)
    hits = searcher.search(query, RegionSettings(effort=QUICK, where="slide_id = 'c'")).hits
    assert {hit.slide_id for hit in hits} == {"c"}
    nothing = searcher.search(query, RegionSettings(effort=QUICK, where="tissue > 2"))
    assert nothing.hits == ()
    assert "0 of 10 hits: no more places were found" in nothing.notes
    with pytest.raises(FilterInvalid, match="orgn"):
        searcher.search(query, RegionSettings(where="orgn = 'a'"))


def test_a_region_smaller_than_a_tile_is_found_with_its_surroundings(searcher):
    result = searcher.search(RegionQuery("a", 400, 300, 30, 20), RegionSettings(k=1))
    assert (result.hits[0].slide_id, result.hits[0].box) == ("a", (400, 300, 30, 20))
    assert any("smaller than a tile" in note for note in result.notes)


# what lies between four tiles, and what only touches one
@pytest.mark.parametrize(
    "query", [RegionQuery("a", 75, 75, 40, 40), RegionQuery("a", 64, 64, 60, 60)]
)
def test_a_region_in_a_gap_of_the_grid_is_said_to_hold_no_tile(tmp_path, query):
    gaps = replace(GRID, stride_px=2 * TILE_PX)
    atlas = make_patterned(tmp_path, Palette(), {"a": pattern(1, 512)}, gaps)
    result = RegionSearcher(atlas, Palette()).search(query, RegionSettings(k=3, effort=QUICK))
    assert all(np.isfinite(hit.score) for hit in result.hits)
    assert any("no tile that was searched lies in the drawn region" in n for n in result.notes)


def test_a_large_region_costs_no_more_than_was_promised_and_says_that_it_was_sampled(searcher):
    result = searcher.search(RegionQuery("a", 5, 7, 1010, 1000), RegionSettings(exclude="slide"))
    assert any("an even sample" in note for note in result.notes)
    promised = (
        region_bank.POINTS
        + 4 * region_bank.PROBES
        + (1 + region_searcher.CHECKED) * region_check.TILES
    )
    assert 0 < result.embedded <= promised


def test_what_looks_like_glass_is_said(searcher):
    result = searcher.search(RegionQuery("d", 0, 0, 400, 400), RegionSettings(effort=QUICK))
    assert any("only 0% of the region is tissue" in note for note in result.notes)


def test_json_rows_and_geojson_tell_the_same(searcher):
    result = searcher.search(box_around(MIDDLE, SIZE), RegionSettings(k=3, effort=QUICK))
    answer = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [hit["slide_id"] for hit in answer["hits"]] == [hit.slide_id for hit in result.hits]
    assert list(answer["hits"][0]) == [
        "slide_id", "case_id", "polygon", "score", "similarity", "coverage", "angle_deg",
        "flipped", "tiles", "metadata",
    ]  # fmt: skip
    assert answer["hits"][0]["metadata"]["organ"] == "skin"
    features = json.loads(json.dumps(result.to_geojson()))["features"]
    (ring,) = features[0]["geometry"]["coordinates"]
    assert ring[:-1] == answer["hits"][0]["polygon"]
    assert ring[0] == ring[-1]
    assert features[0]["properties"]["score"] == result.hits[0].score
    assert features[0]["properties"]["objectType"] == "annotation"
    of_b = result.to_geojson("b")["features"]
    assert len(of_b) == sum(hit.slide_id == "b" for hit in result.hits)
    assert [row["rank"] for row in result.rows()] == [1, 2, 3]


def test_a_hit_asks_again_as_it_was_written(searcher):
    query = PolygonQuery("a", ((300, 420), (560, 400), (520, 640)))
    result = searcher.search(query, RegionSettings(k=1, effort=QUICK))
    feature = result.to_geojson()["features"][0]
    assert PolygonQuery.of("a", feature).corners == query.corners


def test_a_gallery_shows_hits_as_the_query_lies(atlas, searcher):
    crop = turned_crop(pattern(4), (760.0, 530.0), SIZE, 90, True)
    result = searcher.search(as_query(crop), RegionSettings(k=2))
    sheet = region_sheet(result, atlas)
    assert (sheet.picture.pixels == crop).all()
    shown = sheet.cards[0].picture.pixels
    assert shown.shape == crop.shape
    difference = np.abs(shown.astype(float) - crop)[20:-20, 20:-20]
    assert difference.mean() < 12  # other pictures of this size differ by 40
    assert dict(sheet.cards[0].facts)["turned"] == "90°, mirrored"


def test_a_hit_that_leaves_its_slide_is_asked_with_by_what_of_it_lies_there(atlas, searcher):
    result = searcher.search(RegionQuery("a", 0, 0, 200, 150), RegionSettings(k=1, effort=QUICK))
    beyond = replace(result.hits[0], polygon=((-21, 900), (200, 890), (210, 1030), (-9, 1040)))
    sheet = region_sheet(replace(result, hits=(beyond,)), atlas)
    assert sheet.cards[0].ask == "a#0,890,210,134"
    assert isinstance(parse_query(sheet.cards[0].ask), RegionQuery)


def test_a_slide_that_is_gone_is_said_in_the_gallery(tmp_path):
    atlas = make_patterned(tmp_path, Palette(), {"a": pattern(1, 512)})
    result = RegionSearcher(atlas, Palette()).search(RegionQuery("a", 9, 9, 200, 150))
    (tmp_path / "a.svs").unlink()
    picture = region_sheet(result, atlas).cards[0].picture
    assert picture.pixels is None
    assert "a" in picture.problem


@pytest.mark.parametrize(
    "query",
    [
        RegionQuery("a", 900, 0, 200, 100),
        PolygonQuery("a", ((-5, 0), (100, 0), (50, 90))),
        PolygonQuery("a", ((5, 0), (100, 2000), (50, 90))),
    ],
)
def test_a_region_that_leaves_its_slide_is_refused(searcher, query):
    with pytest.raises(QueryUnreadable, match=r"leaves the slide, which has 1024 × 1024 px"):
        searcher.search(query)


def test_a_region_of_too_many_tiles_is_refused_before_it_is_looked_at(searcher, monkeypatch):
    monkeypatch.setattr(region_asked, "MOST_ACROSS", 10)
    for query in (RegionQuery("a", 0, 0, 600, 400), as_query(pattern(1, 512))):
        with pytest.raises(QueryUnreadable, match="11 tiles across") as caught:
            searcher.search(query)
        assert "at most 10 tiles" in caught.value.remedy


@pytest.mark.parametrize("angle", [0.0, 45.0, 120.0])
def test_around_a_small_region_a_turned_tile_sees_the_slide_itself(atlas, monkeypatch, angle):
    turn = Placement(0, 0, angle, flipped=False).turn
    rim = np.array([[x, y] for x in (-42.0, 0.0, 42.0) for y in (-42.0, 0.0, 42.0)])
    seen = []
    for held_px in (region_asked.MAX_PIXELS, 0):  # in memory, and window by window
        monkeypatch.setattr(region_asked, "MAX_PIXELS", held_px)
        with looked_at(RegionQuery("a", 500, 500, 20, 20), atlas, RegionSettings()) as asked:
            eye = Eye(asked, Palette(), TILE_PX)
            seen.append(eye.pictures(rim @ turn, np.tile(turn, (9, 1, 1))))
    assert np.array_equal(*seen)


def test_an_image_has_no_slide_to_leave_out(searcher):
    with pytest.raises(SettingError, match="is an image"):
        searcher.search(as_query(pattern(1, 128)), RegionSettings(exclude="slide"))


def test_a_slide_that_nobody_knows_is_named(searcher):
    with pytest.raises(QueryUnreadable, match=r"nowhere\.svs is neither a slide_id"):
        searcher.search(RegionQuery("nowhere.svs", 0, 0, 9, 9))


def test_another_model_is_refused(atlas):
    with pytest.raises(ModelMismatch, match="mean-colour"):
        RegionSearcher(atlas, MeanColour()).search(RegionQuery("a", 0, 0, 99, 99))


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"k": 201}, {"exclude": "patient"}, {"most_overlap": 1.5}, {"query_mpp": -1.0}],
)
def test_settings_refuse_to_be_wrong(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        RegionSettings(**wrong)


def test_an_outline_of_thousands_of_corners_is_searched_with_few(atlas, searcher):
    turns = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    wobbling = 150 + np.sin(2000 * turns)
    circle = np.column_stack([500 + wobbling * np.cos(turns), 500 + wobbling * np.sin(turns)])
    query = PolygonQuery("a", tuple(map(tuple, circle.round(3).tolist())))
    with looked_at(query, atlas, RegionSettings()) as asked:
        assert shapely.get_num_coordinates(asked.outline) <= region_asked.MOST_CORNERS + 1
    best = searcher.search(query, RegionSettings(k=1, effort=QUICK)).hits[0]
    assert len(best.polygon) == 20_000
    assert best.score == pytest.approx(1, abs=1e-3)


def test_an_outline_all_of_spikes_is_searched_with_a_simpler_one_and_that_is_said(atlas, searcher):
    turns = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    spikes = np.tile([80.0, 200.0], 2000)
    star = np.column_stack([500 + spikes * np.cos(turns), 500 + spikes * np.sin(turns)])
    query = PolygonQuery("a", tuple(map(tuple, star.tolist())))
    with looked_at(query, atlas, RegionSettings()) as asked:
        assert shapely.get_num_coordinates(asked.outline) <= region_asked.MOST_CORNERS + 1
    result = searcher.search(query, RegionSettings(k=1, effort=QUICK))
    assert any("too many corners" in note for note in result.notes)
    assert (result.hits[0].slide_id, len(result.hits[0].polygon)) == ("a", 4000)


def test_a_search_ends_when_nobody_waits_for_it(atlas):
    with patience.shown(Patience(until_s=0)), pytest.raises(DeadlinePassed):
        RegionSearcher(atlas, Palette()).search(box_around((500, 500), (128, 128)))


def test_tiles_are_not_asked_for_by_an_outline(atlas):
    with pytest.raises(SettingError, match="is an outline; tiles are found by rectangles"):
        Searcher(atlas, Palette()).search(PolygonQuery("a", ((300, 420), (560, 400), (520, 640))))


def test_regions_spread_over_cases_are_the_best_of_each(searcher):
    query, quick = box_around(MIDDLE, SIZE), RegionSettings(k=3, effort=QUICK)
    spread = searcher.search(query, replace(quick, spread=Spread("case_id"))).hits
    ranking = searcher.search(query, replace(quick, k=10)).hits
    first = {hit.slide_id: hit for hit in reversed(ranking)}
    assert len({hit.slide_id for hit in spread}) == 3
    assert [hit.score for hit in spread] == sorted((hit.score for hit in spread), reverse=True)
    assert spread[:2] == tuple(sorted(first.values(), key=lambda hit: -hit.score))[:2]


def test_no_region_scores_less_than_asked(searcher):
    quick = RegionSettings(effort=QUICK, min_score=0.999)
    result = searcher.search(box_around(MIDDLE, SIZE), quick)
    assert [hit.slide_id for hit in result.hits] == ["a"]
    assert "1 of 10 hits: no other scores 0.999 or more" in result.notes


def test_a_column_that_is_not_there_is_nothing_to_spread_over(searcher):
    with pytest.raises(SettingError, match="'hospital'"):
        searcher.search(box_around(MIDDLE, SIZE), RegionSettings(spread=Spread("hospital")))
