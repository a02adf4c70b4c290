"""A filter as a client says it (field, operator, value), and as Lance's SQL.

Each condition is checked against the table's columns, then written from our own words, the
column's name as the table has it, and literals that we escape: nothing of the client's is syntax.
A null fulfils no condition, as in SQL; nor does a NaN, which Lance alone takes for the largest
number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

import numpy as np
import pyarrow as pa

from microtome.atlas.sql import literal
from microtome.errors import FilterInvalid

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not_in", "exists"]
Scalar = bool | int | float | str

MOST_CONDITIONS: Final = 32
MOST_VALUES: Final = 1000
"""Of all conditions together."""

MOST_LETTERS: Final = 1000
"""Of one value."""

MOST_LETTERS_TOGETHER: Final = 65_536
"""Of all values; a filter of 4 MB would be compiled and planned for seconds."""

_COMPARED: Final[Mapping[str, str]] = {
    "=": "=",
    "!=": "<>",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_LISTED: Final[Mapping[str, str]] = {"in": "IN", "not_in": "NOT IN"}
_OF_BOOLEANS: Final = frozenset({"=", "!=", "in", "not_in", "exists"})
_PRIVATE: Final = frozenset({"uri", "content_id", "reader", "stamp", "properties", "run_id"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WRITTEN: Final = re.compile(
    r"(?P<field>[^=!<>]+?)(?:\s*(?P<compared>!=|<=|>=|=|<|>)|(?P<listed>\s+in\s))(?P<value>.+)"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on one column; those of a filter hold together (AND). A null fulfils none.

    Attributes:
        field: the column.
        operator: `exists` takes true (the row has a value) or false (it has none).
        value: a list for `in` and `not_in`, true or false for `exists`, else one value.
    """

    field: str
    operator: Operator
    value: Scalar | list[Scalar]


def compile_filter(conditions: Sequence[Condition], columns: pa.Schema) -> str | None:
    """The conditions, joined by AND, as Lance's SQL; None where there are none.

    Args:
        conditions: see `check_size`.
        columns: of the table, see `filterable`.

    Raises:
        FilterInvalid: names the field, and what is wrong with it.
    """
    check_size(conditions)
    allowed = filterable(columns)
    return " AND ".join(f"({_compiled(one, allowed)})" for one in conditions) or None


def check_size(conditions: Sequence[Condition]) -> None:
    """Refuse what would be long in compiling, before anything else is done with it.

    Raises:
        FilterInvalid: it has too many conditions, values or letters.
    """
    if len(conditions) > MOST_CONDITIONS:
        raise FilterInvalid(
            f"the filter has {len(conditions)} conditions, more than {MOST_CONDITIONS}",
            remedy="Say several values of one field with `in`.",
        )
    said = [one.value if isinstance(one.value, list) else [one.value] for one in conditions]
    if sum(map(len, said)) > MOST_VALUES:
        raise FilterInvalid(
            f"the filter has more than {MOST_VALUES} values", remedy="Ask several times."
        )
    letters = sum(len(value) for values in said for value in values if isinstance(value, str))
    if letters > MOST_LETTERS_TOGETHER:
        raise FilterInvalid(
            f"the filter's values have more than {MOST_LETTERS_TOGETHER:,} letters",
            remedy="Ask several times.",
        )


def parse_condition(text: str) -> Condition:
    """Read `site = north`, `age >= 60` or `site in north, south`; see `typed` for the values.

    Raises:
        FilterInvalid: it is none of these.
    """
    read = _WRITTEN.fullmatch(text)
    if read is None:
        raise FilterInvalid(
            f"{text!r} is no condition",
            remedy="Write FIELD OPERATOR VALUE: site = north, age >= 60, site in north, south.",
        )
    field, value = read["field"].strip(), read["value"].strip()
    if read["listed"]:
        return Condition(field, "in", [one.strip() for one in value.split(",")])
    return Condition(field, cast(Operator, read["compared"]), value)


def typed(conditions: Sequence[Condition], columns: pa.Schema) -> list[Condition]:
    """The conditions with texts as their column's numbers and booleans, where they say such.

    For what people and issuers write, who don't know an atlas's columns.
    """
    return [_typed(one, columns) for one in conditions]


def check_rows(conditions: Sequence[Condition]) -> None:
    """Refuse what no token's rows may be limited by: to have no value is no way in.

    Raises:
        FilterInvalid: an `exists` that is false.
    """
    for one in conditions:
        if one.operator == "exists" and one.value is not True:
            raise _invalid(one, "a token's rows can't be those without a value", "Name values.")


def filterable(columns: pa.Schema) -> pa.Schema:
    """The columns that a filter may name: texts, numbers and booleans that tell of tissue.

    Vectors and pictures can't be compared; where files lie is the server's business.
    """
    return pa.schema([one for one in columns if _is_filterable(one)])


def row_columns(tiles: pa.Schema, slides: pa.Schema) -> pa.Schema:
    """The columns that a token's rows may be limited by: those that both tables have alike.

    So one condition says of a tile, of its slide and of its pictures whether they exist.
    """
    kinds = {one.name: one.type for one in slides}
    return pa.schema([one for one in filterable(tiles) if kinds.get(one.name) == one.type])


def _typed(condition: Condition, columns: pa.Schema) -> Condition:
    if condition.field not in columns.names or condition.operator == "exists":
        return condition
    kind = _kind(columns.field(condition.field).type)

    def read(value: Scalar) -> Scalar:
        if not isinstance(value, str) or kind == "text":
            return value
        with suppress(ValueError):
            said = json.loads(value)
            return said if isinstance(said, bool | int | float) else value
        return value

    value = condition.value
    return replace(condition, value=[*map(read, value)] if isinstance(value, list) else read(value))


def _is_filterable(column: pa.Field) -> bool:
    name: str = column.name
    hidden = name.startswith("_") or name in _PRIVATE or "`" in name  # Lance can't quote the last
    return bool(_kind(column.type)) and not hidden


def _compiled(condition: Condition, columns: pa.Schema) -> str:
    if condition.field not in columns.names:
        known = ", ".join(f"{one.name} ({_kind(one.type)})" for one in columns)
        raise _invalid(condition, "there is no such field", f"There are {known}.")
    kind = columns.field(condition.field).type
    column, operator = f"`{condition.field}`", condition.operator
    if pa.types.is_boolean(kind) and operator not in _OF_BOOLEANS:
        raise _invalid(condition, f"{operator} doesn't go with true and false", "Use = or !=.")
    if operator == "exists":
        if not isinstance(condition.value, bool):
            raise _invalid(condition, "`exists` takes true or false")
        return _existing(column, kind) if condition.value else f"NOT ({_existing(column, kind)})"
    if operator in _LISTED:
        values = ", ".join(_literal(condition, one, kind) for one in _values(condition))
        return f"{column} {_LISTED[operator]} ({values}) AND {_existing(column, kind)}"
    if isinstance(condition.value, list):
        raise _invalid(condition, f"{operator} takes one value, not a list", "Use `in`.")
    value = _literal(condition, condition.value, kind)
    return f"{column} {_COMPARED[operator]} {value} AND {_existing(column, kind)}"


def _existing(column: str, kind: pa.DataType) -> str:
    """Whether a row has a value; a NaN is none."""
    known = f"{column} IS NOT NULL"
    return f"{known} AND NOT isnan({column})" if pa.types.is_floating(kind) else known


def _values(condition: Condition) -> list[Scalar]:
    if not isinstance(condition.value, list) or not condition.value:
        raise _invalid(condition, f"{condition.operator} takes a list of values")
    return condition.value


def _literal(condition: Condition, value: Scalar, kind: pa.DataType) -> str:
    """A value of the column's type in Lance's SQL.

    Raises:
        FilterInvalid: it is of another type, or out of the type's range.
    """
    wanted = _kind(kind)
    if wanted == "text" and isinstance(value, str):
        return literal(_plain(condition, value))
    if wanted == "boolean" and isinstance(value, bool):
        return literal(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if wanted == "whole number" and _fits(value, kind):
            return literal(int(value))
        if wanted == "number" and _finite(value, kind):
            return literal(float(value))
    shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}…"
    raise _invalid(condition, f"{shown} is no {wanted} that it can hold")


def has_control(text: str) -> bool:
    """Whether a text holds what Lance's SQL can't: NUL and its like."""
    return _CONTROL.search(text) is not None


def _plain(condition: Condition, text: str) -> str:
    if len(text) > MOST_LETTERS:
        raise _invalid(condition, f"a value is longer than {MOST_LETTERS} letters")
    if has_control(text):
        raise _invalid(condition, "a value holds a control character")
    return text


def _fits(value: float, kind: pa.DataType) -> bool:
    """Whether it is a whole number of the type; Lance can't read the least one of 64 bits."""
    most = 2 ** (kind.bit_width - 1) - 1
    return value == value // 1 and -most <= value <= most


def _finite(value: float, kind: pa.DataType) -> bool:
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(kind.to_pandas_dtype()(value)))
    except OverflowError:  # a whole number beyond any float
        return False


def _kind(kind: pa.DataType) -> str:
    """A column's type as people name it; empty where nothing can be compared with it."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_signed_integer(kind):
        return "whole number"
    return "number" if pa.types.is_float32(kind) or pa.types.is_float64(kind) else ""


def _invalid(condition: Condition, problem: str, remedy: str = "") -> FilterInvalid:
    field = condition.field if len(condition.field) <= 60 else f"{condition.field[:60]}…"
    return FilterInvalid(f"the filter on {field!r} can't be used: {problem}", remedy=remedy)
