"""A process that writes to atlases and stops itself between its look at the lease and its commit.

Used by tests as `python paused_writer.py CHANGE URI…`: pairs of a name of `CHANGES` and an atlas.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import lance
import pyarrow as pa

from microtome.atlas.lease import Lease, LeaseSettings
from microtome.atlas.schema import WORK
from microtome.atlas.writer import Writer, open_writer
from microtome.errors import MicrotomeError

SETTINGS = LeaseSettings(ttl_s=0.2, renew_s=0.1)


def row(slide_id: str, status: str = "done") -> pa.Table:
    """A row of `work`."""
    values = {"work_id": slide_id, "slide_id": slide_id, "status": status}
    return pa.Table.from_pylist([values], schema=WORK)


def compact(dataset: lance.LanceDataset) -> None:
    dataset.optimize.compact_files()


def add_column(dataset: lance.LanceDataset) -> None:
    dataset.add_columns({"more": "1"})


def roll_back(dataset: lance.LanceDataset) -> lance.LanceOperation.BaseOperation:
    old = lance.dataset(dataset.uri, version=1, storage_options=dataset._storage_options)
    return lance.LanceOperation.Merge([], old.lance_schema)


CHANGES: dict[str, Callable[[Writer], object]] = {
    "append": lambda writer: writer.append("work", row("new")),
    "upsert a new row": lambda writer: writer.upsert("work", row("new")),
    "upsert over a row": lambda writer: writer.upsert("work", row("a", "failed")),
    "upsert and delete": lambda writer: writer.upsert(
        "work", row("new"), delete_where="slide_id = 'a'"
    ),
    "update": lambda writer: writer.update("work", {"status": "'failed'"}, "slide_id = 'a'"),
    "delete": lambda writer: writer.delete("work", "slide_id = 'a'"),
    "roll back": lambda writer: writer.commit("work", roll_back),
    "compact": lambda writer: writer.transact("work", compact),
    "add a column": lambda writer: writer.transact("work", add_column),
    "create": lambda writer: writer.create("work", WORK),
    "fence": lambda writer: writer.fence("work"),
}


def main(words: list[str]) -> None:
    """Try each change; say on stdout what came of it."""
    check = Lease.check
    fresh = False

    def check_and_stop(lease: Lease) -> None:
        nonlocal fresh
        check(lease)
        if fresh:
            fresh = False
            os.kill(os.getpid(), signal.SIGSTOP)

    Lease.check = check_and_stop
    for name, uri in zip(words[::2], words[1::2], strict=True):
        with open_writer(uri, "paused", SETTINGS) as writer:
            fresh = True
            try:
                CHANGES[name](writer)
                print("went through", flush=True)
            except MicrotomeError as error:
                print(error.cause, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
