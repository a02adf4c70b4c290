"""What took long to find in a large file, kept for the next time.

In `~/.cache/microtome/datasets`, under the file's URI, size and time or etag: what was found in
another version of it is never taken for this one's.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from microtome.slides.storage import filesystem_of


def remembered(uri: str, what: str, find: Callable[[], pa.Table]) -> pa.Table:
    """The table that `find` makes of a file, from the cache where it is there.

    Args:
        uri: the file it is made from.
        what: names `find` and its version.
        find: makes the table.

    Returns:
        The table, mapped into memory where it comes from the cache.

    Raises:
        OSError: or a store's own error, where the file can't be looked at; and what `find` raises.
    """
    kept = _place(uri, what)
    with suppress(OSError, pa.ArrowInvalid):
        return pa.ipc.open_file(pa.memory_map(str(kept))).read_all()
    table = find()
    with suppress(OSError):  # a home that can't be written to costs a search each time, no more
        _keep(table, kept)
    return table


def _place(uri: str, what: str) -> Path:
    filesystem, path = filesystem_of(uri)
    info = filesystem.info(path)
    version = info.get("mtime") or info.get("ETag") or info.get("LastModified")
    key = hashlib.sha256(f"{uri}\0{info['size']}\0{version}\0{what}".encode()).hexdigest()[:32]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "microtome" / "datasets" / f"{key}.arrow"


def _keep(table: pa.Table, kept: Path) -> None:
    """Write the table whole or not at all, whoever else writes it at the same moment."""
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
        try:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            os.replace(file.name, kept)
        except BaseException:
            os.unlink(file.name)
            raise
