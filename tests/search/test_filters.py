from __future__ import annotations

import lance
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import FilterInvalid
from microtome.search.filters import (
    Exclusion,
    all_of,
    check_filter,
    filter_errors,
)

ROWS = {
    "tile_id": ["t0", "t1", "t2", "t3"],
    "slide_id": ["a", "a", "b", "it's"],
    "case_id": ["one", "one", None, "two"],
    "x": [0, 10, 20, 30],
    "organ": ["skin", "lung", None, "skin"],
    "odd name": [1.0, 2.0, 3.0, 4.0],
}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("filters") / "tiles.lance")
    return lance.write_dataset(pa.table(ROWS), uri)


def found(tiles, *conditions: str) -> list[str]:
    return tiles.to_table(columns=["tile_id"], filter=all_of(*conditions))["tile_id"].to_pylist()


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("x > 5 AND x < 25", ["t1", "t2"]),
        ("organ IN ('skin', 'liver')", ["t0", "t3"]),
        ("organ IS NULL", ["t2"]),
        ("slide_id = 'it''s'", ["t3"]),
        ("organ LIKE 's%' OR x = 10", ["t0", "t1", "t3"]),
        ("`odd name` >= 3", ["t2", "t3"]),
        ("(x = 0) OR (x = 30)", ["t0", "t3"]),  # brackets of its own
        ("x = 0 -- OR x = 10", ["t0"]),
        ("organ = '?' OR organ = '$1' OR x = 0", ["t0"]),
        ("organ = ') OR (' OR x = 0", ["t0"]),
    ],
)
def test_a_condition_over_the_columns_is_taken(tiles, where, names):
    check_filter(tiles, where)
    assert found(tiles, where) == names


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("x >", "ends too early"),
        ("(x = 1", "ends too early"),
        ("x = 1 AND", "ends too early"),
        ("organ = 'skin", "a quote is not closed"),
        ("x = 1 LIMIT 3", "'LIMIT' isn't expected there"),
        ("x = 1; DROP TABLE tiles", "';' isn't expected there"),
        ("orgn = 'skin'", "there is no column orgn"),
        ("organ = skin", "there is no column skin"),
        ("x", "not a condition that is true or false"),
        ("x + 1", "not a condition that is true or false"),
        ("x > 'far'", "can't be compared with a column of type Int64"),
        ("nonsense(x)", "there is no function nonsense"),
        ("x IN (SELECT x FROM tiles)", "is not supported here"),
        ("x = ?", "'?' stands outside of quotes"),
        ("x = $1", "'$' stands outside of quotes"),
        ("count(x) > 1", "not a condition that Lance's SQL knows"),
        ("x LIKE", "ends too early"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_words(tiles, where, problem):
    with pytest.raises(FilterInvalid) as caught:
        check_filter(tiles, where)
    assert problem in caught.value.message
    assert repr(where) in caught.value.message
    assert "tile_id, slide_id, case_id, x, organ" in caught.value.remedy
    assert ".rs:" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "x = 0) OR (x = 10",
        "x = 0 ) OR ( 1 = 1",
        "x = 0)",
        "x = 0) --",
        "x = 0) OR (x = 10 -- ",
        "x = 0) /* ( */",
        "x = 0) OR organ IN ('a'",
        "'a' = ') (') OR (1 = 1",
    ],
)
def test_no_expression_breaks_out_of_its_brackets(tiles, where):
    with pytest.raises(FilterInvalid):
        check_filter(tiles, where)


def test_a_comment_at_the_end_leaves_the_other_conditions_in_force(tiles):
    where = "x < 25 -- and that is all"
    check_filter(tiles, where)
    assert found(tiles, where, Exclusion("slide_id", "a").others) == ["t2"]


PIECES = st.sampled_from(
    ["x = 0", "organ = 'skin'", "(", ")", " OR ", " AND ", "NOT ", "--", "/*", "*/", "'", '"', "`",
     "\\", "\n", ";", "1 = 1", "true", "IS NULL", "x", " IN ", "''", "$$", "?", "CASE WHEN ", "END"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(PIECES, min_size=1, max_size=9).map("".join))
def test_whatever_is_accepted_finds_no_tile_that_is_excluded(tiles, where):
    try:
        check_filter(tiles, where)
    except FilterInvalid:
        return
    assert not {"t0", "t1"} & set(found(tiles, where, Exclusion("slide_id", "a").others))
    assert not {"t0", "t1"} & set(found(tiles, Exclusion("slide_id", "a").others, where))


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2,
                unique=True))  # fmt: skip
@pytest.mark.parametrize("column", ["slide_id", "case_id"])
def test_any_name_excludes_itself_and_nothing_else(tmp_path_factory, column, names):
    rows = {"tile_id": ["own", "other"], "slide_id": names, "case_id": names}
    uri = str(tmp_path_factory.mktemp("names") / "tiles.lance")
    tiles = lance.write_dataset(pa.table(rows), uri)
    assert found(tiles, Exclusion(column, names[0]).others) == ["other"]
    assert found(tiles, Exclusion(column, names[0]).own) == ["own"]


@pytest.mark.parametrize(
    "name", ["it's", "''", "a\\", "a\\'b", "50%", "a_b", '"q"', "`b`", "Ω 切片", "--", "\n"]
)
def test_names_that_need_care_are_excluded_exactly(tmp_path, name):
    rows = {"tile_id": ["own", "other"], "slide_id": [name, name + "x"]}
    tiles = lance.write_dataset(pa.table(rows), str(tmp_path / "tiles.lance"))
    assert found(tiles, Exclusion("slide_id", name).others) == ["other"]


def test_excluding_a_case_keeps_tiles_of_unknown_case(tiles):
    assert found(tiles, Exclusion("case_id", "one").others) == ["t2", "t3"]


def test_a_filter_that_fails_only_on_the_rows_is_the_users_error(tiles):
    check_filter(tiles, "1 / x > 0")
    with pytest.raises(FilterInvalid, match="divides by zero"), filter_errors(tiles, "1 / x > 0"):
        tiles.to_table(filter="1 / x > 0")


def test_errors_without_a_filter_of_the_users_pass(tiles):
    with pytest.raises(OSError, match="boom"), filter_errors(tiles, None):
        raise OSError("boom")
