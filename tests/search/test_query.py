from __future__ import annotations

import numpy as np
import pytest

from microtome.errors import QueryUnreadable
from microtome.search.query import (
    CaseQuery,
    ImageQuery,
    RegionQuery,
    SlideQuery,
    TileQuery,
    VectorQuery,
    parse_query,
)

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
        ("slide:a/b.svs", SlideQuery("a/b.svs")),
        ("slide: a:b#1,2,3,4", SlideQuery(" a:b#1,2,3,4")),  # ids are taken as they are
        ("case:slide:7", CaseQuery("slide:7")),
    ],
)
def test_each_form_is_told_apart(text, query):
    assert parse_query(text) == query


@pytest.mark.parametrize("name", ["crop.png", "a#1,2,3,4", "slide:a", TILE])
def test_a_file_that_exists_is_an_image_whatever_its_name(tmp_path, monkeypatch, name):
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert parse_query(name) == ImageQuery(name)


@pytest.mark.parametrize(
    "text",
    ["", "missing.png", TILE[:-1], TILE[:-1] + "g", "a.svs#1,2,3", "a.svs#1,2,3,4,5",
     "a.svs#1,2,3,x", "a.svs#1.5,2,3,4", "#1,2,3,4", "a.svs#", "a\0b.png", "x" * 5000, "slide:",
     "case:"],
)  # fmt: skip
def test_anything_else_is_named_and_the_forms_are_told(text):
    with pytest.raises(QueryUnreadable) as caught:
        parse_query(text)
    assert repr(text) in caught.value.message
    for form in ("image file", "tile id", "slide.svs#x,y,w,h", "slide:ID", "case:ID"):
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
    [
        ImageQuery("s3://b/crop.png"),
        TileQuery(TILE.lower()),
        RegionQuery("a#b", 1, 2, 3, 4),
        SlideQuery("a#b"),
        CaseQuery("7"),
    ],
)
def test_a_query_written_out_reads_back_as_itself(query):
    assert parse_query(query.text) == query


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e300])
def test_vectors_are_brought_to_unit_length_whatever_their_size(scale):
    query = VectorQuery(np.array([[3.0, 4.0], [0.0, -2.0]]) * scale)
    assert query.vectors.dtype == np.float32
    assert query.vectors.tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, -1.0]]))
    assert query.text == "2 vectors of 2 numbers"


@pytest.mark.parametrize(
    ("vectors", "fault"),
    [
        ([1.0, 2.0], r"have the shape \(2,\)"),
        ([[[1.0]]], r"have the shape \(1, 1, 1\)"),
        (np.empty((0, 4)), r"have the shape \(0, 4\)"),
        ([[1.0, 2.0], [1.0]], "not rows of equally many numbers"),
        ([["a"]], "not rows of equally many numbers"),
        ([[1.0, 2.0], [np.nan, 1.0]], "vector 1, counted from 0, holds NaN or infinity"),
        ([[np.inf, 1.0]], "vector 0, counted from 0, holds NaN or infinity"),
        ([[1.0, 2.0], [0.0, 0.0]], "vector 1, counted from 0, is all zeros"),
    ],
)
def test_vectors_that_point_nowhere_are_refused(vectors, fault):
    with pytest.raises(QueryUnreadable, match=fault):
        VectorQuery(vectors)
