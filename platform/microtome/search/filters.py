"""Which tiles a search may find: the user's `--where` and our own conditions, as one filter.

The user's expression is proved to be one whole expression before it is joined to ours, since
Lance's parser stops quietly where an expression ends: alone, `a = 1) OR (1 = 1` and
`a = 1; anything` are both taken for `a = 1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from microtome.atlas.sql import literal
from microtome.errors import FilterInvalid
from microtome.slides.slide import Scalar

LanceDataset = Any
"""`lance.LanceDataset`, which carries no types."""

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`")
_SOURCE_PLACE = re.compile(r",?\s*\S*\.rs:\d+.*$", re.DOTALL)

# Lance's own words → a sentence for people; the first that fits. Groups fill the braces.
_EXPLANATIONS = (
    (r"No field named \"?([^\s\"]+?)\"?\.(?:\s|$)", "there is no column {}"),
    (r"sql parser error: Expected: .*, found: EOF", "it ends too early"),
    (
        r"sql parser error: Expected: .*?, found: (.+?)(?: at Line.*)?\)",
        "{!r} isn't expected there",
    ),
    (r"Unterminated string literal", "a quote is not closed"),
    (r"Error tokenizing statement", "it can't be read as SQL"),
    (r"does not return a boolean", "it is not a condition that is true or false"),
    (
        r"Received literal \w+\((.+?)\) and could not convert to literal of type '(\w+)'",
        "{} can't be compared with a column of type {}",
    ),
    (r"Invalid function '(.+?)'", "there is no function {}"),
    (r"Expression '(.+?)' is not supported SQL", "{} is not supported here"),
    (r"Divide by zero", "it divides by zero"),
    (r"Cannot cast (.+)", "it can't turn {}"),
)


def all_of(*conditions: str) -> str | None:
    """The conditions joined by AND; None where there is none.

    The line break keeps a trailing `--` comment from swallowing what follows.
    """
    return " AND ".join(f"({condition}\n)" for condition in conditions if condition) or None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Tiles that a search may not find: those of one slide, of one case, or of another group.

    Attributes:
        column: `slide_id`, `case_id` or a manifest column.
        value: the slide, the case, or what the tiles of the group have in that column.
    """

    column: str
    value: Scalar

    @property
    def own(self) -> str:
        """The condition that a tile is one of them."""
        return f"{named(self.column)} = {literal(self.value)}"

    @property
    def others(self) -> str:
        """The condition that a tile is none of them; tiles of which it is unknown stay."""
        return none_of(self.column, [self.value])


def unless_nan(value: Scalar) -> Scalar:
    """What a cell of a manifest's column says; None where that is nothing, or NaN."""
    return None if value != value else value  # noqa: PLR0124 - NaN alone differs from itself


def none_of(column: str, values: Iterable[Scalar]) -> str:
    """The condition that a column holds none of some values; also where it holds nothing."""
    listed = ", ".join(literal(value) for value in values)
    return f"{named(column)} IS NULL OR {named(column)} NOT IN ({listed})" if listed else ""


def named(column: str) -> str:
    """A column in Lance's SQL, whatever its name."""
    return f"`{column}`"


def check_filter(tiles: LanceDataset, where: str) -> None:
    """Prove that `where` is one whole condition over the columns of `tiles`; no data are read.

    Raises:
        FilterInvalid: quotes the expression, says what is wrong and lists the columns.
    """
    if not where.strip():
        raise _invalid(tiles, where, "it is empty")
    if mark := re.search(r"[?$]", _QUOTED.sub("", where)):  # a placeholder makes Lance panic
        raise _invalid(tiles, where, f"{mark[0]!r} stands outside of quotes")
    with filter_errors(tiles, where):
        _plan(tiles, where)
        _plan(tiles, f"({where}\n)")
    if not _is_whole(tiles, where):
        raise _invalid(tiles, where, "only its beginning is an expression")


@contextmanager
def filter_errors(tiles: LanceDataset, where: str | None) -> Iterator[None]:
    """Turn Lance's refusal of a filter, while it is planned or run, into `FilterInvalid`.

    Other errors, and all where the user gave no filter, pass unchanged.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if where is None or not re.search(r"user input|Not supported|Execution error", str(error)):
            raise
        raise _invalid(tiles, where, _explain(str(error))) from None


def _is_whole(tiles: LanceDataset, where: str) -> bool:
    """Whether Lance's parser reads `where` to its end.

    An AND without a right side is a syntax error, if the parser comes to it. Where it doesn't,
    it stopped before, and what it left unread could break out of our brackets.
    """
    try:
        _plan(tiles, f"{where}\n AND")
    except (OSError, ValueError) as error:
        return "sql parser error" in str(error)
    return False


def _plan(tiles: LanceDataset, condition: str) -> None:
    tiles.scanner(columns=["tile_id"], filter=condition).explain_plan()


def _explain(error: str) -> str:
    for pattern, sentence in _EXPLANATIONS:
        if found := re.search(pattern, _SOURCE_PLACE.sub("", error)):
            return sentence.format(*found.groups())
    return "it is not a condition that Lance's SQL knows"


def _invalid(tiles: LanceDataset, where: str, problem: str) -> FilterInvalid:
    names = [field.name for field in tiles.schema if not pa.types.is_fixed_size_list(field.type)]
    return FilterInvalid(
        f"the filter {where!r} can't be used: {problem}",
        remedy="Write a condition such as \"slide_id = 'a.svs' AND tissue > 0.5\" over the "
        f"columns {', '.join(names)}; texts stand in single quotes, odd column names in backticks.",
    )
