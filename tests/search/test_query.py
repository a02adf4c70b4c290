from __future__ import annotations

import pytest

from microtome.errors import QueryUnreadable
from microtome.search.query import ImageQuery, RegionQuery, TileQuery, parse_query

TILE = "0123456789abcdef0123456789ABCDEF"


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (TILE, TileQuery(TILE.lower())),
        (f" {TILE} ", TileQuery(TILE.lower())),
        ("slide.svs#1,2,3,4", RegionQuery("slide.svs", 1, 2, 3, 4)),
        ("slide.svs# 1 , 2 , 3 , 4 ", RegionQuery("slide.svs", 1, 2, 3, 4)),
        ("case #7/a b.svs#1,2,3,4", RegionQuery("case #7/a b.svs", 1, 2, 3, 4)),
        ("s3://bucket/a.svs#1,2,3,4", RegionQuery("s3://bucket/a.svs", 1, 2, 3, 4)),
        ("a.svs#-1,-2,3,4", RegionQuery("a.svs", -1, -2, 3, 4)),  # refused once the slide is known
        ("s3://bucket/crop.png", ImageQuery("s3://bucket/crop.png")),
    ],
)
def test_each_form_is_told_apart(text, query):
    assert parse_query(text) == query


@pytest.mark.parametrize("name", ["crop.png", "a#1,2,3,4", TILE])
def test_a_file_that_exists_is_an_image_whatever_its_name(tmp_path, monkeypatch, name):
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert parse_query(name) == ImageQuery(name)


@pytest.mark.parametrize(
    "text",
    ["", "missing.png", TILE[:-1], TILE[:-1] + "g", "a.svs#1,2,3", "a.svs#1,2,3,4,5",
     "a.svs#1,2,3,x", "a.svs#1.5,2,3,4", "#1,2,3,4", "a.svs#", "a\0b.png", "x" * 5000],
)  # fmt: skip
def test_anything_else_is_named_and_the_three_forms_are_told(text):
    with pytest.raises(QueryUnreadable) as caught:
        parse_query(text)
    assert repr(text) in caught.value.message
    for form in ("image file", "tile id", "slide.svs#x,y,w,h"):
        assert form in caught.value.remedy


@pytest.mark.parametrize("name", ["a.svs", "a.mrxs", "A.NDPI"])
def test_a_whole_slide_is_no_image(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(QueryUnreadable, match="is a whole slide") as caught:
        parse_query(str(tmp_path / name))
    assert f"{name}#x,y,w,h" in caught.value.remedy


@pytest.mark.parametrize("box", ["1,2,0,4", "1,2,3,0", "1,2,-3,4"])
def test_a_region_without_area_is_refused(box):
    with pytest.raises(QueryUnreadable, match=f"a.svs#{box} has no area"):
        parse_query(f"a.svs#{box}")


@pytest.mark.parametrize(
    "query",
    [ImageQuery("s3://b/crop.png"), TileQuery(TILE.lower()), RegionQuery("a#b", 1, 2, 3, 4)],
)
def test_a_query_written_out_reads_back_as_itself(query):
    assert parse_query(query.text) == query
