"""Structured filters: what Lance finds by our SQL is what plain Python finds."""

from __future__ import annotations

import math
import operator
import unicodedata

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import FilterInvalid
from microtome_serve.filters import (
    MOST_CONDITIONS,
    MOST_LETTERS,
    MOST_VALUES,
    Condition,
    check_rows,
    compile_filter,
    filterable,
    row_columns,
)

TEXTS = [
    "north",
    "South",
    "it's",
    "a`b",
    'say "x"',
    "Größe",
    "-- x",
    "日本",
    "",
    None,
    "north",
    "o",
]
ROWS = pa.table(
    {
        "tile_id": [f"t{number}" for number in range(12)],
        "site": TEXTS,
        "odd name": [*TEXTS[1:], None],
        "age": pa.array([0, -1, 7, None, 2**63 - 1, -(2**63), 7, 61, 62, 0, 2**53 + 1, 5]),
        "x": pa.array([0, 1, None, 2**31 - 1, -(2**31), 5, 5, 6, 7, 8, 9, -9], pa.int32()),
        "score": pa.array([0.0, -0.0, math.nan, None, math.inf, -math.inf, 0.9, 1e300, 5, 0, 1, 2]),
        "tissue": pa.array([0.9, 0, math.nan, None, 0.5, 1, 0.1, 0.2, 0, 1, 1, -0.0], pa.float32()),
        "frozen": pa.array([True, False, None] * 4),
        "vector_1": pa.array([[0.0, 1.0]] * 12, pa.list_(pa.float16(), 2)),
        "thumbnail": pa.array([b"x"] * 12),
        "uri": ["/data/secret"] * 12,
        "content_id": ["0f" * 16] * 12,
        "reader": ["openslide"] * 12,
    }
)
PLAIN = ROWS.to_pylist()
COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return lance.write_dataset(ROWS, str(tmp_path_factory.mktemp("filters") / "rows.lance"))


def found(rows, *conditions: Condition) -> list[str]:
    where = compile_filter(conditions, rows.schema)
    return rows.to_table(columns=["tile_id"], filter=where)["tile_id"].to_pylist()


def passes(row: dict[str, object], condition: Condition) -> bool:
    """What a condition means, in a few lines that anyone can read."""
    here, value = row[condition.field], condition.value
    known = here is not None and not (isinstance(here, float) and math.isnan(here))
    if condition.operator == "exists":
        return known is value
    if condition.field == "tissue":  # compared at the column's precision
        here = here if here is None else np.float32(here)
        value = [np.float32(v) for v in value] if isinstance(value, list) else np.float32(value)
    if condition.operator in {"in", "not_in"}:
        return known and (here in value) is (condition.operator == "in")
    return known and COMPARE[condition.operator](here, value)


def numbers(kind: type[np.signedinteger], column: str) -> st.SearchStrategy[int]:
    most = np.iinfo(kind).max
    there = [n for n in ROWS[column].to_pylist() if n is not None and n >= -most]
    return st.sampled_from(there) | st.integers(-most, most)


VALUES = {
    "site": st.sampled_from([text for text in TEXTS if text]) | st.sampled_from(["'", "''", "nor"]),
    "odd name": st.sampled_from([text for text in TEXTS if text is not None]),
    "age": numbers(np.int64, "age"),
    "x": numbers(np.int32, "x"),
    "score": st.sampled_from([0.0, -0.0, 0.9, 5, 1e300]) | st.floats(-1e308, 1e308),
    "tissue": st.sampled_from([0.9, 0.5, 0, 1, 0.1]) | st.floats(-1, 2),
    "frozen": st.booleans(),
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    field = draw(st.sampled_from(sorted(VALUES)))
    compared = ["=", "!="] if field == "frozen" else sorted(COMPARE)
    how = draw(st.sampled_from([*compared, "in", "not_in", "exists"]))
    if how == "exists":
        return Condition(field, how, draw(st.booleans()))
    if how in {"in", "not_in"}:
        return Condition(field, how, draw(st.lists(VALUES[field], min_size=1, max_size=4)))
    return Condition(field, how, draw(VALUES[field]))


@settings(max_examples=300)
@given(asked=st.lists(conditions(), max_size=3))
def test_lance_finds_what_plain_python_finds(rows, asked):
    expected = [row["tile_id"] for row in PLAIN if all(passes(row, one) for one in asked)]
    assert found(rows, *asked) == expected


@pytest.mark.parametrize(
    "condition",
    [
        Condition("site", "!=", "north"),
        Condition("site", "not_in", ["north"]),
        Condition("score", ">", -1.0),
        Condition("score", "!=", 1.0),
        Condition("tissue", "not_in", [1.0]),
        Condition("age", "<", 5),
        Condition("frozen", "!=", True),
    ],
)
def test_neither_a_null_nor_a_nan_fulfils_a_condition(rows, condition):
    values = dict(zip(ROWS["tile_id"].to_pylist(), ROWS[condition.field].to_pylist(), strict=True))
    passed = [values[tile_id] for tile_id in found(rows, condition)]
    assert passed
    assert all(value is not None and value == value for value in passed)  # noqa: PLR0124


@pytest.mark.parametrize("how", ["=", "in", ">="])
@pytest.mark.parametrize(
    "attempt",
    [
        "zzz' OR '1'='1",
        "zzz' OR 1=1 --",
        "zzz'; DROP TABLE tiles; --",
        "zzz''",
        "zzz\\' OR true --",
        "zzz` OR `x` = `x",
        "zzz') OR (1=1",
        "zzz’ OR ’1’=’1",  # typographic quotes
        "zzzʼ OR ʼ1ʼ=ʼ1",  # a letter that some encodings fold into a quote
        "zzz＇ OR true --",  # full width
        "zzz' OR site IS NOT NULL OR site='",
        "zzz?",
        "zzz$1",
        "zzz/* ' */ OR true",
    ],
)
def test_a_value_is_never_more_than_a_value(rows, how, attempt):
    assert found(rows, Condition("site", how, [attempt] if how == "in" else attempt)) in (
        [],
        ["t7"] if how == ">=" else [],  # what sorts behind it, as text
    )


@pytest.mark.parametrize(
    "field",
    ["nope", "", "site` = 'x' OR `site", "1=1) OR (site", "SITE", "_rowid", "site\n", "a" * 9999],
)
def test_an_unknown_field_is_named(rows, field):
    with pytest.raises(FilterInvalid, match="there is no such field") as refused:
        compile_filter([Condition(field, "=", "x")], rows.schema)
    assert repr(field[:60])[:-1] in refused.value.message
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("field", ["vector_1", "thumbnail", "uri", "content_id", "reader"])
def test_vectors_pictures_places_and_marks_of_files_are_no_fields(rows, field):
    with pytest.raises(FilterInvalid, match=field) as refused:
        compile_filter([Condition(field, "=", "x")], rows.schema)
    assert field not in refused.value.remedy


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (Condition("site", "=", 5), "5 is no text"),
        (Condition("site", "=", True), "True is no text"),
        (Condition("age", "=", "61"), "'61' is no whole number"),
        (Condition("age", ">", 61.5), "61.5 is no whole number"),
        (Condition("age", "=", True), "True is no whole number"),
        (Condition("age", "=", math.nan), "nan is no whole number"),
        (Condition("age", "<", 2**63), "is no whole number that it can hold"),
        (Condition("x", "<", 2**31), "is no whole number that it can hold"),
        (Condition("score", "=", math.nan), "nan is no number"),
        (Condition("score", "<", math.inf), "inf is no number"),
        (Condition("score", "<", 10**400), "is no number that it can hold"),
        (Condition("tissue", "<", 1e300), "is no number that it can hold"),
        (Condition("score", "=", "1"), "'1' is no number"),
        (Condition("frozen", "=", 1), "1 is no boolean"),
        (Condition("frozen", "=", "true"), "'true' is no boolean"),
        (Condition("frozen", "<", True), "doesn't go with true and false"),
        (Condition("site", "in", "north"), "takes a list"),
        (Condition("site", "in", []), "takes a list"),
        (Condition("site", "=", ["north"]), "takes one value"),
        (Condition("site", "in", ["north", 5]), "5 is no text"),
        (Condition("site", "=", "x" * (MOST_LETTERS + 1)), "longer than 1000"),
        (Condition("site", "=", "a\nb"), "control character"),
        (Condition("site", "=", "a\x00"), "control character"),
        (Condition("site", "=", "\x7f"), "control character"),
        (Condition("site", "=", "\ud800"), "control character"),
        (Condition("site", "exists", "yes"), "takes true or false"),
    ],
)
def test_a_value_that_the_column_cannot_hold_is_refused_by_name(rows, condition, problem):
    with pytest.raises(FilterInvalid) as refused:
        compile_filter([condition], rows.schema)
    assert problem in refused.value.message
    assert repr(condition.field) in refused.value.message


def test_too_many_conditions_are_refused(rows):
    most = [Condition("age", ">", 0)] * MOST_CONDITIONS
    assert found(rows, *most)
    with pytest.raises(FilterInvalid, match="33 conditions"):
        compile_filter([*most, most[0]], rows.schema)


def test_too_many_values_are_refused_however_they_are_spread(rows):
    half = Condition("age", "in", [1] * (MOST_VALUES // 2))
    assert compile_filter([half, half], rows.schema)
    with pytest.raises(FilterInvalid, match="1000 values"):
        compile_filter([half, half, Condition("age", ">", 0)], rows.schema)


def test_too_many_letters_are_refused_however_they_are_spread(rows):
    long = Condition("site", "in", ["x" * 256] * 128)
    assert compile_filter([long, long], rows.schema)
    with pytest.raises(FilterInvalid, match="65,536 letters"):
        compile_filter([long, long, Condition("site", "=", "x")], rows.schema)


@given(text=st.text(st.characters(), max_size=20))
def test_letters_are_allowed_by_their_category(text):
    control = any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in text)
    schema = pa.schema([("site", pa.string())])
    if control:
        with pytest.raises(FilterInvalid, match="control character"):
            compile_filter([Condition("site", "=", text)], schema)
    else:
        assert compile_filter([Condition("site", "=", text)], schema)


def test_no_condition_is_no_filter(rows):
    assert compile_filter([], rows.schema) is None


def test_a_token_s_rows_are_never_those_without_a_value():
    check_rows([Condition("site", "exists", True), Condition("site", "=", "north")])
    with pytest.raises(FilterInvalid, match="site"):
        check_rows([Condition("site", "exists", False)])


def test_rows_are_limited_by_what_tiles_and_slides_share():
    tiles = pa.schema([("slide_id", pa.string()), ("x", pa.int32()), ("run_id", pa.string()),
                       ("site", pa.string()), ("age", pa.int64())])  # fmt: skip
    slides = pa.schema([("slide_id", pa.string()), ("run_id", pa.string()), ("uri", pa.string()),
                        ("site", pa.string()), ("age", pa.string())])  # fmt: skip
    assert row_columns(tiles, slides).names == ["slide_id", "site"]


def test_filterable_are_texts_numbers_and_booleans():
    assert filterable(ROWS.schema).names == ROWS.schema.names[:8]
