"""Opening one table of an atlas: where it lies, its newest version, or an older one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import lance

from microtome.atlas.storage import (
    STORE_ERRORS,
    is_damage,
    location,
    may_pass,
    patiently,
    reason,
    storage_options,
)
from microtome.errors import AtlasDamaged, AtlasError

STORAGE_VERSION = "2.1"
"""Of Lance's files. In 2.2 a column of one value, as the size of tiles or an organ often is, takes
4 ms to read of one row in a million (pylance 14: pages of a constant are walked to the row asked
for); 2.3, which pylance 14 would write, lancedb 0.40 can't read."""


def table_uri(uri: str, table: str) -> str:
    """Where lancedb keeps a table."""
    return f"{location(uri)}/{table}.lance"


def open_table(
    uri: str, table: str, version: int | None = None, *, shown_uri: str = ""
) -> lance.LanceDataset | None:
    """The newest version of a table, or the given one; None where there is none.

    Args:
        uri: of the atlas.
        table: its name.
        version: of the table.
        shown_uri: of the atlas as its user named it, where `uri` is its location.

    Raises:
        AtlasError: something is there, or may be, that can't be read.
        AtlasDamaged: so it is, since the file that tells of its version is damaged.
    """
    place, options = table_uri(uri, table), storage_options(uri)
    try:
        return patiently(lambda: lance.dataset(place, version, storage_options=options))
    except STORE_ERRORS as error:
        if isinstance(error, ValueError) and "was not found" in str(error):
            return None
        raise _unreadable(shown_uri or uri, table, error) from error


def newest_table(uri: str, table: str) -> lance.LanceDataset:
    """The newest version of a table that must be there.

    Raises:
        AtlasError: it is missing, or can't be read.
    """
    dataset = open_table(uri, table)
    if dataset is None:
        raise lost_table(uri, table)
    return dataset


@contextmanager
def reading(uri: str, table: str) -> Iterator[None]:
    """Turn what Lance says where a table's file is damaged or gone into `AtlasDamaged`.

    Raises:
        AtlasDamaged: so it is.
        AtlasError: it can't be read for another reason.
    """
    try:
        yield
    except STORE_ERRORS as error:
        if not re.search("LanceError|External error|corrupt file", str(error)):
            raise
        if may_pass(error) or not is_damage(error):
            raise _unreadable(uri, table, error) from error
        raise AtlasDamaged(
            f"the table {table} of the atlas {uri} can't be read: {reason(error, uri)}",
            remedy=f"`microtome verify --atlas {uri}` says what is damaged, and with --repair "
            "takes it out, so that it can be indexed again.",
        ) from error


def _unreadable(uri: str, table: str, error: Exception) -> AtlasError:
    kind = AtlasDamaged if is_damage(error) else AtlasError
    return kind(
        f"the table {table} of {uri} can't be read: {reason(error, uri)}",
        remedy="Check the URI, the permissions and, for an object store, the AWS variables; "
        "a damaged table must come from a backup.",
    )


def lost_table(uri: str, table: str) -> AtlasError:
    """What to say of an atlas one of whose tables is missing."""
    return AtlasError(
        f"the atlas {uri} has lost its table {table}",
        remedy="Restore the folder from a backup, or index into a new atlas.",
    )
