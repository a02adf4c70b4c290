"""Who belongs together, as the user says it: by a column, or by a pattern in the names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from microtome.datasets.listing import some_of
from microtome.errors import SettingError, SplitImpossible
from microtome.evaluation.collection import Collection

Columns = Mapping[str, Sequence[object]]
"""Values of each thing of a collection, by the name of the column that holds them."""


def regrouped(collection: Collection, wanted: str, columns: Columns) -> Collection:
    r"""The collection with the groups that a column or a pattern gives.

    Args:
        collection: its names are what a pattern looks into.
        wanted: a name in `columns`, or a regular expression whose first bracket, or whole match,
            is the group; a named bracket says what it is: `(?P<patient>\d+-\d+)[A-Z]*-100-` in
            BreakHis's file names.
        columns: what there is to group by.

    Raises:
        SettingError: neither a column nor a pattern.
        SplitImpossible: some have no value, or don't match.
    """
    if wanted in columns:
        groups = tuple(None if one is None else str(one) for one in columns[wanted])
        grouped_by = wanted
    else:
        pattern = _pattern(wanted, columns)
        groups = _matched(pattern, collection.names)
        grouped_by = next(iter(pattern.groupindex), "group")
    lacking = [name for name, one in zip(collection.names, groups, strict=True) if one is None]
    if lacking:
        raise SplitImpossible(
            f"--group {wanted} gives no group for {len(lacking):,} of {len(groups):,}: "
            f"{some_of(lacking)}",
            remedy="Name a column or pattern that tells the slide or patient of each, so that none "
            "is left out by mistake.",
        )
    return replace(collection, groups=groups, grouped_by=grouped_by)


def _pattern(wanted: str, columns: Columns) -> re.Pattern[str]:
    held = ", ".join(columns) or "none"
    if re.fullmatch(r"\w+", wanted):
        raise SettingError(
            f"there is no column {wanted!r} to group by",
            remedy=f"Columns are: {held}. Or give a regular expression with the group in brackets.",
        )
    try:
        return re.compile(wanted)
    except re.error as error:
        raise SettingError(
            f"--group {wanted} is no column, and no regular expression: {error}",
            remedy=f"Columns are: {held}.",
        ) from None


def _matched(pattern: re.Pattern[str], names: Sequence[str]) -> tuple[str | None, ...]:
    found = (pattern.search(name) for name in names)
    return tuple(match and match[min(1, pattern.groups)] for match in found)
