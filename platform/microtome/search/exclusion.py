"""What is left out of a search on the query's own account: its slide, its case, or its group.

A tile of which the group is unknown (null) may be found; where the query's own is unknown, its
slide is left out instead, and that is said.
"""

from __future__ import annotations

from typing import Final

from microtome.atlas.atlas import Atlas
from microtome.atlas.sql import quoted
from microtome.errors import SettingError
from microtome.search.filters import Exclusion, unless_nan
from microtome.slides.slide import Scalar

GROUP: Final = "group:"
EXCLUDES: Final = ("none", "slide", "case", f"{GROUP}COLUMN")

_COLUMNS: Final = {"slide": "slide_id", "case": "case_id"}


def check_exclude(exclude: str) -> None:
    """Raise `SettingError` unless it is one of `EXCLUDES`."""
    if exclude.startswith(GROUP) and exclude != GROUP:
        return
    if exclude not in EXCLUDES[:3]:
        raise SettingError(f"exclude must be one of {', '.join(EXCLUDES)}, not {exclude!r}")


def column_of(exclude: str) -> str | None:
    """The column whose value the left out tiles share; None where nothing is left out."""
    if exclude.startswith(GROUP):
        return exclude.removeprefix(GROUP)
    return _COLUMNS.get(exclude)


def check_column(atlas: Atlas, setting: str, column: str) -> None:
    """Raise `SettingError` unless tiles can be told apart by a column.

    Args:
        atlas: whose tiles.
        setting: what names the column, for the message.
        column: its name.
    """
    known = ("slide_id", "case_id", *atlas.columns.names)
    if column not in known:
        raise SettingError(
            f"{setting} names the column {column!r}, which the atlas {atlas.uri} hasn't",
            remedy=f"It has: {', '.join(known)}.",
        )


def own_exclusion(
    atlas: Atlas, slide_id: str | None, exclude: str
) -> tuple[Exclusion | None, tuple[str, ...]]:
    """What a search leaves out, and what to say about it.

    Args:
        atlas: what is searched.
        slide_id: the atlas's slide that the query comes from; None where it is from none.
        exclude: one of `EXCLUDES`.

    Raises:
        SettingError: there is no such column.
    """
    column = column_of(exclude)
    if column is None:
        return None, ()
    check_column(atlas, "exclude", column)
    if slide_id is None:
        return None, ("the query's slide is not in the atlas, so there was nothing to exclude",)
    if column == "slide_id":
        return Exclusion(column, slide_id), ()
    value = own_value(atlas, slide_id, column)
    if value is not None:
        return Exclusion(column, value), ()
    what = "case" if column == "case_id" else column
    note = f"the {what} of {slide_id} is unknown: only the slide itself was excluded"
    return Exclusion("slide_id", slide_id), (note,)


def own_value(atlas: Atlas, slide_id: str, column: str) -> Scalar:
    """What a column says of a slide; None where it says nothing."""
    found = atlas.slides.to_table(columns=[column], filter=f"slide_id = {quoted(slide_id)}")
    return unless_nan(found[column][0].as_py()) if len(found) else None
