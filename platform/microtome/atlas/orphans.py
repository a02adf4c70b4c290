"""Files that no version of a table names: what killed jobs wrote and never committed.

Lance tells them apart by reading every version. Removing is a matter of order, since a holder of
the lease may be paused at any point and be followed by another, whose workers then write files
that no version names *yet*: first the list, then the lease is checked, then exactly that list is
removed. Whatever was listed before the check belongs to jobs that can't commit any more.

(`cleanup_old_versions(delete_unverified=True)` lists and removes in one, so it isn't used.) Files
of a few bytes, transactions and deletion vectors that were never committed, go when Lance lets go
of the versions around them.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import lance

from microtome.atlas.objects import objects
from microtome.atlas.schema import TABLES
from microtome.atlas.storage import location, reason
from microtome.atlas.tables import lost_table, open_table
from microtome.atlas.writer import Writer
from microtome.errors import AtlasError
from microtome.slides.storage import is_remote

EVER = timedelta(days=36_500)  # no version is so old: none goes, only what none of them names
LISTED = 1_000_000  # what is beyond that goes the next time
REMOVERS = 16
_STAGED = re.compile(r".+#\d+")  # what a local write goes to before it gets its name


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Files of one table that no version names.

    Attributes:
        paths: relative to the table's folder.
        size_bytes: of all of them.
    """

    paths: tuple[str, ...] = ()
    size_bytes: int = 0

    @property
    def files(self) -> int:
        """How many there are."""
        return len(self.paths)


def find_leftovers(uri: str) -> dict[str, Leftovers]:
    """By table, what no version names; while a job is at work that includes what it writes.

    Raises:
        AtlasError: a table can't be read.
    """
    found = {}
    for table in TABLES:
        dataset = open_table(uri, table)
        if dataset is None:
            raise lost_table(uri, table)
        try:
            found[table] = _leftovers(uri, table, dataset)
        except (OSError, RuntimeError) as error:
            raise AtlasError(
                f"the files of the table {table} of {uri} can't be listed: {reason(error, uri)}",
                remedy="Check the permissions; a damaged version must come from a backup.",
            ) from error
    return found


def remove_leftovers(writer: Writer) -> dict[str, Leftovers]:
    """Remove what no version names; returns what it was, by table.

    Raises:
        LeaseLost: another job took over; nothing of it was removed.
        AtlasWriteFailed: the store refuses; the next time goes on.
    """
    found = find_leftovers(writer.uri)
    for table, left in found.items():
        if left.paths:
            writer.transact(table, partial(_remove, writer.uri, table, left))
    return found


def _leftovers(uri: str, table: str, dataset: lance.LanceDataset) -> Leftovers:
    told = dataset.explain_cleanup_old_versions(
        older_than=EVER,
        delete_unverified=True,
        error_if_tagged_old_versions=False,
        include_files=True,
        max_files=LISTED,
    )
    named = {
        file.path.rpartition(f"{table}.lance/")[2]: file.size_bytes for file in told.candidate_files
    }
    sizes = named | _staged(uri, table)
    return Leftovers(tuple(sorted(sizes)), sum(sizes.values()))


def _staged(uri: str, table: str) -> dict[str, int]:
    """Half-written local files, which Lance doesn't look for."""
    if is_remote(uri):
        return {}
    folder = Path(location(uri)) / f"{table}.lance"
    staged = (path for path in folder.rglob("*#*") if _STAGED.fullmatch(path.name))
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in staged}


def _remove(uri: str, table: str, left: Leftovers, _: lance.LanceDataset) -> None:
    by_folder: dict[str, list[str]] = {}
    for path in left.paths:
        folder, _slash, name = path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    with ThreadPoolExecutor(REMOVERS) as removers:
        for folder, names in by_folder.items():
            place = objects(uri, f"{table}.lance/{folder}", "the removal of leftover files")
            list(removers.map(place.delete, names))
