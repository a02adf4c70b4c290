"""What every function that changes an atlas takes: the right to commit, fenced.

A lease alone doesn't fence: Lance rebases, so the Append of a holder that was paused would still
go through after somebody else took over. Hence:

1. whoever takes over commits to every table a change of nothing, a `Merge` of the fragments that
   are there. Every commit of rows or columns that was prepared on an earlier version now conflicts
   with it;
2. every commit of a holder opens the newest version, then checks the lease, then commits on that
   version. If the fence came before the opening, the check sees the newer lease; if it came
   after, Lance refuses.

(`Merge` is itself refused where anything was committed meanwhile, so a fence that comes too late
does no harm. `Restore` fences as well, but a late one would roll the table back.)

What changes no row goes through the fence: Lance rebases index commits, and tags are no commits. A
stale holder does no harm with them, for an index names the fragments that it covers, and tags are
settled by the next writer. Such changes are `unfenced`: the lease is checked after them as well, so
that the holder learns of it before it goes on.

Files beside the tables know no fence either: where a successor may have put its own, `check_lease`
comes right before they are published or removed.

A store may do what it is asked and yet its answer be lost. Then the writer fences the table, so
that nothing of the attempt can still land, and does the change again on what it finds.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import lance
import pyarrow as pa
from lance.fragment import write_fragments

from microtome.atlas.format import renew
from microtome.atlas.lease import Lease, LeaseSettings, take_lease
from microtome.atlas.schema import TABLES
from microtome.atlas.staging_tables import staged_models, staging_table
from microtome.atlas.storage import WAITS_S, check_uri, may_pass, storage_options, write_failed
from microtome.atlas.tables import STORAGE_VERSION, lost_table, open_table, table_uri
from microtome.errors import AtlasDamaged

D = TypeVar("D")
T = TypeVar("T")
TOKEN_KEY = "microtome:commit"  # noqa: S105 - a name
MESSAGE_KEY = "lance.commit.message"


class Writer:
    """The one writer of an atlas.

    Every method raises `LeaseLost` where another job took over, `AtlasWriteFailed` where the store
    refuses for good, and `AtlasError` where a table is missing or can't be read.

    Attributes:
        uri: of the atlas, as the user named it.
    """

    def __init__(self, uri: str, lease: Lease) -> None:
        self.uri = uri
        self._lease = lease

    def check_lease(self) -> None:
        """Make sure that nobody has taken over: right before what is no commit to a table.

        Raises:
            LeaseLost: somebody has, or may: the lease could not be renewed for too long.
            AtlasWriteFailed: the store doesn't answer.
        """
        self._lease.check()

    def transact(
        self, table: str, change: Callable[[lance.LanceDataset], T], *, unfenced: bool = False
    ) -> T:
        """Change one table.

        Args:
            table: its name.
            change: makes one commit on the dataset it is given, its newest version. It must
                let Lance repeat nothing (`conflict_retries=0`, `max_retries=0`), since Lance would
                not check the lease; and it may be called again, where an answer was lost, on a
                version that has its work already.
            unfenced: it makes or drops an index or a tag, which no fence stops; the lease is
                checked after it, too.

        Returns:
            What the last call of `change` returned.
        """
        became = self._repeat(
            table, lambda: self._newest(table), change, settle=lambda: self.fence(table)
        )
        if unfenced:
            self.check_lease()
        return became

    def commit(
        self,
        table: str,
        operation: Callable[[lance.LanceDataset], lance.LanceOperation.BaseOperation],
        message: str = "",
    ) -> None:
        """Commit an operation exactly once, also one that would double rows if it were repeated.

        Args:
            table: its name.
            operation: what to do to the version it is given; called again for a newer one.
            message: stands in the transaction.
        """
        token, first = uuid.uuid4().hex, 0

        def change(dataset: lance.LanceDataset) -> None:
            nonlocal first
            if first and _went_through(dataset, token, first):
                return
            first = first or dataset.version
            properties = {TOKEN_KEY: token} | ({MESSAGE_KEY: message} if message else {})
            self._commit(
                dataset,
                lance.Transaction(
                    dataset.version, operation(dataset), transaction_properties=properties
                ),
            )

        self.transact(table, change)

    def append(
        self, table: str, arriving: pa.Table | Sequence[lance.FragmentMetadata], message: str = ""
    ) -> None:
        """Add rows, or fragments that were written before."""

        def operation(_: lance.LanceDataset) -> lance.LanceOperation.BaseOperation:
            return lance.LanceOperation.Append(
                self._fragments(table, arriving) if isinstance(arriving, pa.Table) else arriving
            )

        self.commit(table, operation, message)

    def upsert(
        self, table: str, rows: pa.Table, *, insert: bool = True, delete_where: str | None = None
    ) -> None:
        """Write rows over those of the same key, in one commit.

        Args:
            table: its name.
            rows: with all columns, or the key and those that change.
            insert: also add the rows that are new.
            delete_where: SQL; rows it matches whose key is none of `rows` go.
        """

        def change(dataset: lance.LanceDataset) -> None:
            merge = dataset.merge_insert(TABLES[table].names[0]).when_matched_update_all()
            if insert:
                merge = merge.when_not_matched_insert_all()
            if delete_where:
                merge = merge.when_not_matched_by_source_delete(delete_where)
            merge.conflict_retries(0).execute(rows)

        self.transact(table, change)

    def update(self, table: str, values: Mapping[str, str], where: str) -> None:
        """Set columns to SQL expressions in the rows that match an SQL filter."""
        self.transact(
            table, lambda dataset: dataset.update(dict(values), where=where, conflict_retries=0)
        )

    def delete(self, table: str, where: str) -> None:
        """Delete the rows that match an SQL filter."""
        self.transact(table, lambda dataset: dataset.delete(where, conflict_retries=0))

    def create(self, table: str, schema: pa.Schema) -> None:
        """Make a table without rows; what a creation cut short left there is overwritten."""

        def make(dataset: lance.LanceDataset | None) -> None:
            if dataset is not None:
                operation = lance.LanceOperation.Overwrite(schema, [])
                self._commit(dataset, lance.Transaction(dataset.version, operation))
                return
            lance.write_dataset(
                schema.empty_table(),
                table_uri(self.uri, table),
                mode="create",
                storage_options=storage_options(self.uri),
                data_storage_version=STORAGE_VERSION,
                enable_stable_row_ids=True,  # indices then survive compaction
            )

        self._repeat(table, lambda: open_table(self.uri, table), make)

    def fence(self, table: str) -> None:
        """Make every commit conflict that was prepared on an earlier version of a table."""

        def commit_nothing(dataset: lance.LanceDataset) -> None:
            fragments = [fragment.metadata for fragment in dataset.get_fragments()]
            nothing = lance.LanceOperation.Merge(fragments, dataset.lance_schema)
            self._commit(dataset, lance.Transaction(dataset.version, nothing))

        self._repeat(table, lambda: self._newest(table), commit_nothing)

    def _repeat(
        self,
        table: str,
        opened: Callable[[], D],
        change: Callable[[D], T],
        settle: Callable[[], None] = lambda: None,
    ) -> T:
        """Call `change` on what is opened until it succeeds; `settle` before each new attempt."""
        for wait_s in (*WAITS_S, None):
            dataset = opened()
            self._lease.check()  # after the opening, see above
            try:
                return change(dataset)
            except (OSError, RuntimeError, pa.ArrowInvalid) as error:
                if wait_s is None or not may_pass(error):
                    raise write_failed(self.uri, f"the table {table}", error) from error
            time.sleep(wait_s)
            settle()
        raise AssertionError("the last attempt returns or raises")

    def _newest(self, table: str) -> lance.LanceDataset:
        dataset = open_table(self.uri, table)
        if dataset is None:
            raise lost_table(self.uri, table)
        return dataset

    def _commit(self, dataset: lance.LanceDataset, transaction: lance.Transaction) -> None:
        """One attempt: Lance must not rebase a commit onto itself, whose answer was lost."""
        lance.LanceDataset.commit(
            dataset, transaction, storage_options=storage_options(self.uri), max_retries=0
        )

    def _fragments(self, table: str, rows: pa.Table) -> list[lance.FragmentMetadata]:
        fragments: list[lance.FragmentMetadata] = write_fragments(
            rows,
            table_uri(self.uri, table),
            mode="append",
            storage_options=storage_options(self.uri),
        )
        return fragments


@contextmanager
def open_writer(uri: str, purpose: str, settings: LeaseSettings | None = None) -> Iterator[Writer]:
    """Be the one writer of an atlas, which need not exist yet.

    Args:
        uri: folder or object-store URI.
        purpose: what the job does, e.g. `index`; others who want to write are told.
        settings: how long a silent holder is waited for.

    Raises:
        AtlasBusy: another job writes to it.
        AtlasMismatch: it is no atlas of Microtome, or of a newer format.
        AtlasError: the store refuses.
        SettingError: the URI holds credentials.
    """
    check_uri(uri)
    settings = settings or LeaseSettings()
    lease, others_may_commit = take_lease(uri, purpose, settings)
    clean = False
    try:
        lease.keep(settings.renew_s)
        writer = Writer(uri, lease)
        if others_may_commit:
            _fence_off(writer)
        renew(writer)
        yield writer
        clean = True
    finally:
        lease.release(clean=clean)


def _fence_off(writer: Writer) -> None:
    """Fence every table, those in which vectors wait as well."""
    for table in TABLES:
        if open_table(writer.uri, table) is not None:
            writer.fence(table)
    for table in map(staging_table, staged_models(writer.uri)):
        with suppress(AtlasDamaged):  # whoever would go on from it lets go of it
            if open_table(writer.uri, table) is not None:
                writer.fence(table)


def _went_through(dataset: lance.LanceDataset, token: str, since: int) -> bool:
    """Whether a version after `since` carries the token."""
    for version in range(since + 1, dataset.version + 1):
        transaction = dataset.read_transaction(version)
        if transaction and transaction.transaction_properties.get(TOKEN_KEY) == token:
            return True
    return False
