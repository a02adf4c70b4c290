"""Keeping an atlas quick and small: what `microtome maintain` does, under the lease.

1. what a killed job left half-way is finished or undone (`recovery`);
2. what was forgotten loses its last byte (`forgetting.purge`);
3. states of old runs lose their tags (`versions.expired`);
4. small fragments become large ones (`compaction`);
5. indices are built, and take in the rows that came after them;
6. mosaics of slides are made, and made anew (`mosaic_building`), and what floors above derive;
7. versions that no reader needs any more go (`compaction.prune`);
8. files that no version names go (`orphans`).

Each step may be killed and is done again, or gone on with, by the next `maintain`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import lance

from microtome.atlas import forgetting
from microtome.atlas.atlas import Atlas
from microtome.atlas.compaction import compact, prune
from microtome.atlas.index_building import LEAST_ROWS
from microtome.atlas.index_coding import Coder, code_here
from microtome.atlas.indexing import refresh_indices
from microtome.atlas.lance_indices import LanceVectorIndex, create_vector_index
from microtome.atlas.mosaic_building import refresh_all_mosaics
from microtome.atlas.orphans import remove_leftovers
from microtome.atlas.recovery import recover
from microtome.atlas.runs import RunStatus, RunTotals, finish_run, start_run
from microtome.atlas.schema import TABLES, vector_column
from microtome.atlas.storage import location
from microtome.atlas.tables import newest_table
from microtome.atlas.versions import drop_tags, expired
from microtome.atlas.writer import Writer, open_writer
from microtome.config import check_choice, check_positive
from microtome.errors import AtlasError
from microtome.slides.storage import filesystem_of, is_remote

DAY_S = 86_400.0
IndexChoice = Literal["compact", "ivf_rq", "ivf_pq", "ivf_hnsw_sq", "none"]
LANCE_KINDS: Mapping[str, LanceVectorIndex] = {
    "ivf_rq": "IVF_RQ",
    "ivf_pq": "IVF_PQ",
    "ivf_hnsw_sq": "IVF_HNSW_SQ",
}

_NOTHING: Mapping[str, Callable[[Writer], str]] = {}


@dataclass(frozen=True, slots=True)
class MaintainSettings:
    """How to maintain an atlas.

    Attributes:
        retention_s: how long files stay that the newest version no longer names.
        index: which indices to build and extend: `compact`, those that a search by Microtome
            uses; an index of Lance's own on each vector column besides, for those who query with
            lancedb; or `none`, and no mosaics of slides either.
    """

    retention_s: float = 7 * DAY_S
    index: IndexChoice = "compact"

    def __post_init__(self) -> None:
        check_positive("retention_s", self.retention_s)
        check_choice("index", self.index, get_args(IndexChoice))


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did.

    Attributes:
        name: of the step.
        did: in words; empty where there was nothing to do.
        seconds: wall time.
    """

    name: str
    did: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TableSize:
    """How large a table is.

    Attributes:
        rows: that readers see.
        fragments: of the newest version.
        versions: that can be opened.
        stored_bytes: of all its files, older versions included.
    """

    rows: int
    fragments: int
    versions: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Maintained:
    """What a maintenance did.

    Attributes:
        uri: of the atlas.
        steps: in order.
        before: tables by name.
        after: tables by name.
    """

    uri: str
    steps: tuple[Step, ...]
    before: dict[str, TableSize]
    after: dict[str, TableSize]

    def to_json(self) -> dict[str, Any]:
        """The result as scripts read it."""
        return asdict(self)


def maintain(
    uri: str,
    settings: MaintainSettings,
    starting: Callable[[str], None] = lambda _: None,
    further: Mapping[str, Callable[[Writer], str]] = _NOTHING,
    code: Coder = code_here,
) -> Maintained:
    """Maintain an atlas.

    Args:
        uri: folder or object-store URI.
        settings: how.
        starting: told the name of each step before it begins.
        further: by name, steps of floors above, done when all indices are there; each says in
            words what it did.
        code: who codes vectors for the search index.

    Raises:
        AtlasNotFound: no atlas lies there.
        AtlasBusy: another job writes to it; nothing was done.
        AtlasWriteFailed: the store refuses; running again goes on.
    """
    Atlas.open(uri)  # the lease would make a folder
    with open_writer(uri, "maintain") as writer:
        before = sizes(uri)
        steps = []
        with _as_run(writer, settings):
            for name, work in _steps(writer, settings, starting, further, code):
                starting(name)
                started_s = time.monotonic()
                did = work()
                steps.append(Step(name, did, time.monotonic() - started_s))
        return Maintained(uri, tuple(steps), before, sizes(uri))


def sizes(uri: str) -> dict[str, TableSize]:
    """How large each table is.

    Raises:
        AtlasError: a table can't be read.
    """
    return {table: _size(uri, table, newest_table(uri, table)) for table in TABLES}


@contextmanager
def _as_run(writer: Writer, settings: MaintainSettings) -> Iterator[None]:
    recover(writer, Atlas.open(writer.uri))
    run_id = start_run(writer, "maintain", asdict(settings))
    try:
        yield
    except BaseException as error:
        status: RunStatus = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(AtlasError):  # the first error says more
            finish_run(writer, run_id, status, RunTotals())
        raise
    finish_run(writer, run_id, "finished", RunTotals())


def _steps(
    writer: Writer,
    settings: MaintainSettings,
    tell: Callable[[str], None],
    further: Mapping[str, Callable[[Writer], str]],
    code: Coder,
) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "forget", lambda: _forget(writer)
    yield "untag", lambda: _untag(writer)
    yield "compact", lambda: _compact(writer, tell)
    if settings.index != "none":
        yield "index", lambda: _index(writer, settings.index, code)
        yield "mosaics", lambda: ", ".join(refresh_all_mosaics(writer, tell))
    for name, work in further.items():
        yield name, partial(work, writer)
    yield "prune", lambda: _prune(writer, settings.retention_s)
    yield "leftovers", lambda: _remove_leftovers(writer)


def _forget(writer: Writer) -> str:
    records = forgetting.purge(writer)
    requests = "request" if len(records) == 1 else "requests"
    return f"removed the last bytes of {len(records)} {requests} to forget" if records else ""


def _untag(writer: Writer) -> str:
    old = expired(writer.uri)
    drop_tags(writer, old)
    return f"let go of the states of {len(old)} runs" if old else ""


def _compact(writer: Writer, tell: Callable[[str], None]) -> str:
    removed: Counter[str] = Counter()
    for table in TABLES:

        def count(fragments: int, table: str = table) -> None:
            removed[table] += fragments
            tell(f"compact: {removed[table]:,} fragments of {table}")

        compact(writer, table, count)
    return _counted(removed, "fragments")


def _index(writer: Writer, choice: IndexChoice, code: Coder) -> str:
    did = []
    for table in TABLES:
        rows = sum(_unindexed(newest_table(writer.uri, table)).values())
        if rows:
            writer.transact(
                table, lambda dataset: dataset.optimize.optimize_indices(), unfenced=True
            )
            did.append(f"{rows:,} rows into the indices of {table}")
    did += refresh_indices(writer, code=code)
    if choice in LANCE_KINDS:
        did += _index_for_lancedb(writer, LANCE_KINDS[choice])
    return ", ".join(did)


def _index_for_lancedb(writer: Writer, kind: LanceVectorIndex) -> Iterator[str]:
    """Give each vector column an index of Lance's own, unless it has one of this kind."""
    tiles = newest_table(writer.uri, "tiles")
    kinds = {
        name: index.index_type for index in tiles.describe_indices() for name in index.field_names
    }
    for model_id in Atlas.open(writer.uri).models:
        column = vector_column(model_id)
        if kinds.get(column) != kind and tiles.count_rows(f"{column} IS NOT NULL") >= LEAST_ROWS:
            make = partial(create_vector_index, column=column, kind=kind)
            writer.transact("tiles", make, unfenced=True)
            yield f"{kind} on {column}"


def _unindexed(dataset: lance.LanceDataset) -> dict[str, int]:
    """Rows that each index of a table doesn't cover."""
    names = {index.name for index in dataset.describe_indices()}
    return {name: dataset.stats.index_stats(name)["num_unindexed_rows"] for name in names}


def _prune(writer: Writer, retention_s: float) -> str:
    removed = {table: prune(writer, table, retention_s) for table in TABLES}
    return _counted(removed, "versions")


def _counted(counts: Mapping[str, int], what: str) -> str:
    return ", ".join(f"{count:,} {what} of {table}" for table, count in counts.items() if count)


def _remove_leftovers(writer: Writer) -> str:
    found = remove_leftovers(writer)
    files = sum(left.files for left in found.values())
    size_bytes = sum(left.size_bytes for left in found.values())
    return f"{files:,} files of killed jobs, {size_bytes / 1e6:,.1f} MB" if files else ""


def _size(uri: str, table: str, dataset: lance.LanceDataset) -> TableSize:
    fragments = len(dataset.get_fragments())
    return TableSize(
        dataset.count_rows(), fragments, len(dataset.versions()), _stored_bytes(uri, table)
    )


def _stored_bytes(uri: str, table: str) -> int:
    if is_remote(uri):
        store, path = filesystem_of(uri)
        return int(store.du(f"{path.rstrip('/')}/{table}.lance"))
    files = (Path(location(uri)) / f"{table}.lance").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())
