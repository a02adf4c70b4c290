from __future__ import annotations

import json

import pytest

from microtome.errors import QueryUnreadable
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import parse_query

CORNERS = ((10.0, 20.0), (110.0, 20.0), (60.0, 90.5))
RING = [[10, 20], [110, 20], [60, 90.5], [10, 20]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
FEATURE = {"type": "Feature", "geometry": POLYGON, "properties": {"objectType": "annotation"}}


@pytest.mark.parametrize(
    "geojson",
    [
        POLYGON,
        {"type": "Polygon", "coordinates": [RING[:3]]},  # not closed
        {"type": "Polygon", "coordinates": [[[*corner, 0] for corner in RING]]},  # with a z
        {"type": "MultiPolygon", "coordinates": [[RING]]},
        FEATURE,
        {"type": "FeatureCollection", "features": [FEATURE]},
        [FEATURE],  # as older QuPaths wrote it
    ],
)
def test_what_drawing_programs_write_is_read(geojson):
    assert PolygonQuery.of("a.svs", geojson).corners == CORNERS


def test_a_text_names_slide_and_file(tmp_path):
    file = tmp_path / "gland.geojson"
    file.write_text(json.dumps(FEATURE))
    query = parse_query(f"case #7/a.svs#{file}")
    assert (query.slide, query.corners) == ("case #7/a.svs", CORNERS)
    assert query.text == f"case #7/a.svs#{file}"


@pytest.mark.parametrize(
    ("ring", "problem"),
    [
        ([[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]], "crosses or touches itself"),  # a bow tie
        ([[0, 0], [9, 0], [9, 9], [4, 0], [0, 9], [0, 0]], "crosses or touches itself"),
        ([[0, 0], [9, 9], [0, 0]], "2 corners"),
        ([[0, 0], [5, 5], [9, 9], [0, 0]], "crosses or touches itself|no area"),
        ([[0, 0], [0.1, 0], [0, 0.1], [0, 0]], "no area"),
        ([[0, 0], [9, 0], [float("nan"), 9], [0, 0]], "lie on no slide"),
        ([[0, 0], [1e300, 0], [9, 9], [0, 0]], "lie on no slide"),
        ([[0, 0], ["a", 0], [9, 9], [0, 0]], "no x and y"),
        ([[0, 0], [9], [9, 9], [0, 0]], "no x and y"),
        ([["0", "0"], ["9", "0"], ["9", "9"], ["0", "0"]], "no x and y"),
        ([[False, False], [True, False], [True, 9], [False, False]], "no x and y"),
        ([[0, 0], [9, 0], [9, None], [0, 0]], "no x and y"),
        ([0, 1, 2, 3], "no x and y"),
        ("ring", "no x and y"),
        ([], "0 corners"),
    ],
)
def test_what_is_no_polygon_is_refused_with_a_remedy(ring, problem):
    with pytest.raises(QueryUnreadable, match=problem) as caught:
        PolygonQuery.of("a.svs", {"type": "Polygon", "coordinates": [ring]})
    assert "a.svs#polygon" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("geojson", "problem"),
    [
        ({"type": "Polygon", "coordinates": [RING, RING]}, "has holes"),
        ({"type": "MultiPolygon", "coordinates": [[RING], [RING]]}, "2 shapes, not one"),
        ({"type": "FeatureCollection", "features": [FEATURE, FEATURE]}, "2 shapes, not one"),
        ({"type": "FeatureCollection", "features": []}, "0 shapes, not one"),
        ({"type": "Point", "coordinates": [1, 2]}, "is no polygon"),
        ({"type": "Polygon"}, "is no polygon"),
        ({"type": "Polygon", "coordinates": []}, "is no polygon"),
        ({"type": "Feature", "geometry": None}, "is no polygon"),
        ("text", "is no polygon"),
        (None, "is no polygon"),
    ],
)
def test_anything_but_one_polygon_is_refused(geojson, problem):
    with pytest.raises(QueryUnreadable, match=problem):
        PolygonQuery.of("a.svs", geojson)


def test_a_polygon_may_be_given_by_its_corners():
    assert PolygonQuery("a.svs", CORNERS).polygon.area == pytest.approx(100 * 70.5 / 2)
    with pytest.raises(QueryUnreadable, match="2 corners"):
        PolygonQuery("a.svs", CORNERS[:2])


@pytest.mark.parametrize("content", ["{", "\xff", "[" * 100_000])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    file = tmp_path / "drawn.geojson"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(QueryUnreadable, match=r"drawn\.geojson is no JSON"):
        parse_query(f"a.svs#{file}")


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(QueryUnreadable, match=r"nothing lies at nowhere\.geojson"):
        parse_query("a.svs#nowhere.geojson")
