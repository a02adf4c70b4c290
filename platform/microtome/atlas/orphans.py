"""Files that no version of a table names: what killed jobs wrote and never committed.

Lance tells them apart by reading every version. Of a table in which vectors wait for their column
(`staged`) every file is left over once no job would go on from it, and where it is damaged.

Removing is a matter of order, since a holder of the lease may be paused at any point and be
followed by another, whose workers then write files that no version names *yet*: first the list,
then the lease is checked, then exactly that list is removed. Whatever was listed before the check
belongs to jobs that can't commit any more.

(`cleanup_old_versions(delete_unverified=True)` lists and removes in one, so it isn't used.) Files
of a few bytes, transactions and deletion vectors that were never committed, go when Lance lets go
of the versions around them.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lance

from microtome.atlas.atlas import Atlas
from microtome.atlas.backfill_plan import lacks_vectors
from microtome.atlas.objects import objects
from microtome.atlas.schema import TABLES
from microtome.atlas.staging_tables import staged_models, staging_table
from microtome.atlas.storage import is_damage, reason
from microtome.atlas.tables import newest_table, open_table, reading, table_uri
from microtome.atlas.writer import Writer
from microtome.errors import AtlasDamaged, AtlasError
from microtome.slides.storage import filesystem_of, is_remote, store_errors, store_reason

EVER = timedelta(days=36_500)  # no version is so old: none goes, only what none of them names
LISTED = 1_000_000  # what is beyond that goes the next time
REMOVERS = 16
WAITING_S = 14 * 86_400.0
"""Vectors that have waited so long since the last of them came are given up: the next job embeds
those slides again."""
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
    atlas = Atlas.open(uri)
    found = {table: _unnamed(uri, table, newest_table(uri, table)) for table in TABLES}
    for model_id in staged_models(uri):
        found[staging_table(model_id)] = _of_staged(atlas, model_id)
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
            writer.check_lease()
            _remove(writer.uri, table, left)
    return found


def _of_staged(atlas: Atlas, model_id: str) -> Leftovers:
    """All of a table in which vectors wait, unless a further job would go on from them."""
    uri, table = atlas.uri, staging_table(model_id)
    if lacks_vectors(atlas, model_id):
        with suppress(AtlasDamaged):  # of this table: nobody can go on from it
            staged = open_table(uri, table)
            if staged is not None and _waited_s(uri, table, staged) < WAITING_S:
                return _unnamed(uri, table, staged)
    return _all(uri, table)


def _waited_s(uri: str, table: str, staged: lance.LanceDataset) -> float:
    """How long ago the last of what waits came, or was last fenced."""
    with reading(uri, table):
        last_s: float = max(one["timestamp"].timestamp() for one in staged.versions())
    return time.time() - last_s


def _unnamed(uri: str, table: str, dataset: lance.LanceDataset) -> Leftovers:
    """What no version of a table names."""
    try:
        told = dataset.explain_cleanup_old_versions(
            older_than=EVER,
            delete_unverified=True,
            error_if_tagged_old_versions=False,
            include_files=True,
            max_files=LISTED,
        )
    except (OSError, RuntimeError) as error:
        kind = AtlasDamaged if is_damage(error) else AtlasError
        raise _unlisted(uri, table, reason(error, uri), kind) from error
    named = {
        file.path.rpartition(f"{table}.lance/")[2]: file.size_bytes for file in told.candidate_files
    }
    sizes = named | _staged(uri, table)
    return Leftovers(tuple(sorted(sizes)), sum(sizes.values()))


def _all(uri: str, table: str) -> Leftovers:
    """Every file of a table; those of its versions first, without which it is none."""
    store, folder = filesystem_of(table_uri(uri, table))
    try:
        found = store.find(folder, detail=True)
    except store_errors() as error:
        raise _unlisted(uri, table, store_reason(error)) from error
    sizes = {path.rpartition(f"{table}.lance/")[2]: one["size"] for path, one in found.items()}
    paths = sorted(sizes, key=lambda path: (not path.startswith("_versions/"), path))
    return Leftovers(tuple(paths), sum(sizes.values()))


def _unlisted(uri: str, table: str, why: str, kind: type[AtlasError] = AtlasError) -> AtlasError:
    return kind(
        f"the files of the table {table} of {uri} can't be listed: {why}",
        remedy="Check the permissions; a damaged version must come from a backup.",
    )


def _staged(uri: str, table: str) -> dict[str, int]:
    """Half-written local files, which Lance doesn't look for."""
    if is_remote(uri):
        return {}
    folder = Path(table_uri(uri, table))
    staged = (path for path in folder.rglob("*#*") if _STAGED.fullmatch(path.name))
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in staged}


def _remove(uri: str, table: str, left: Leftovers) -> None:
    by_folder: dict[str, list[str]] = {}
    for path in left.paths:
        folder, _slash, name = path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    with ThreadPoolExecutor(REMOVERS) as removers:
        for folder, names in by_folder.items():
            place = objects(uri, f"{table}.lance/{folder}", "the removal of leftover files")
            list(removers.map(place.delete, names))
    if not is_remote(uri):
        root = Path(table_uri(uri, table))
        for emptied in sorted([root, *(root / below for below in by_folder)], reverse=True):
            with suppress(OSError):  # others' files are there
                emptied.rmdir()
