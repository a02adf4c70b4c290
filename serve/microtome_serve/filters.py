"""A filter as a client says it (field, operator, value), and as Lance's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not_in", "exists"]
Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on one column; those of a filter hold together (AND). A null fulfils none.

    Attributes:
        field: the column.
        operator: `exists` takes true (the row has a value) or false (it has none).
        value: a list for `in` and `not_in`, true or false for `exists`, else one value; moments
            and days as ISO 8601 texts.
    """

    field: str
    operator: Operator
    value: Scalar | list[Scalar]


def compile_filter(conditions: Sequence[Condition], columns: pa.Schema) -> str | None:
    """The conditions, joined by AND, as Lance's SQL; None where there are none.

    Raises:
        FilterInvalid: names the field, and what is wrong with it.
    """
    raise NotImplementedError


def row_columns(tiles: pa.Schema, slides: pa.Schema) -> pa.Schema:
    """The columns that a token's rows may be limited by: those that both tables have alike."""
    raise NotImplementedError
