"""What lies where in a tar archive and in the archives within it; nothing is unpacked.

Headers are hopped through, many at a time since the disk is what takes time; a million of them take
a while, so what was found is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, NamedTuple

import pyarrow as pa

from microtome.datasets.remembered import remembered
from microtome.errors import DatasetError, DatasetInvalid, DatasetNotFound
from microtome.slides.storage import explained, filesystem_of, is_remote

BLOCK: Final = 512
THREADS: Final = 16
AHEAD_BYTES: Final = 4 << 20
MEMBERS: Final = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
"""Files of an archive: name (`inner.tar/name` in an inner one), and where in the outer one."""

_NAME, _SIZE, _CHECKSUM, _KIND = slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157)

_OCTAL = re.compile(rb"[ \0]*([0-7]+)[ \0]*")


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    offset: int
    size: int


def archive_members(uri: str, shown: str) -> pa.Table:
    """Every file in a tar archive, and in `.tar` files within it.

    Args:
        uri: where it lies. In a store the whole archive is read through, the first time.
        shown: the archive as messages name it.

    Returns:
        Columns of `MEMBERS`, in the archive's order.

    Raises:
        DatasetNotFound, DatasetError: it isn't there, or was refused.
        DatasetInvalid: no tar archive, a compressed one, or one that is cut short.
    """
    with explained(shown, missing=DatasetNotFound, refused=DatasetError):
        return remembered(uri, "tar 1", lambda: _scanned(uri, shown))


def _scanned(uri: str, shown: str) -> pa.Table:
    filesystem, path = filesystem_of(uri)
    outer = list(_scan(uri, Member("", 0, filesystem.size(path)), shown))
    inner = [member for member in outer if member.name.endswith(".tar")]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda member: _table(_scan(uri, member, shown)), inner)
        plain = _table(member for member in outer if not member.name.endswith(".tar"))
        return pa.concat_tables([plain, *found]).combine_chunks()


def _table(members: Iterable[Member]) -> pa.Table:
    columns = list(zip(*members, strict=True)) or [(), (), ()]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, MEMBERS, strict=True)],
        schema=MEMBERS,
    )


def _scan(uri: str, archive: Member, shown: str) -> Iterator[Member]:
    """The files of one archive that lies at `archive` within the file at `uri`."""
    at, end = archive.offset, archive.offset + archive.size
    prefix = f"{archive.name}/" if archive.name else ""
    with _opened(uri) as file:
        while at < end:
            file.seek(at)
            header = file.read(BLOCK)
            if not header.strip(b"\0") and len(header) == BLOCK:
                return
            kind, name, size = _parsed(header, shown)
            if at + BLOCK + size > end:
                break
            if kind in b"0\0":
                yield Member(prefix + name, at + BLOCK, size)
            at += BLOCK + -(-size // BLOCK) * BLOCK
    raise DatasetInvalid(f"{shown} is cut short", remedy="Copy it again from its source.")


def _opened(uri: str) -> IO[bytes]:
    """On a disk a header costs its own bytes; in a store what follows it is fetched with it."""
    filesystem, path = filesystem_of(uri)
    if not is_remote(uri):
        return open(path, "rb", buffering=0)
    file: IO[bytes] = filesystem.open(path, "rb", block_size=AHEAD_BYTES, cache_type="readahead")
    return file


def _parsed(header: bytes, shown: str) -> tuple[bytes, str, int]:
    """Kind, name and size of a member, as POSIX.1-1988 (ustar) writes them.

    Raises:
        DatasetInvalid: it is no header; its checksum is wrong, or a number no octal one.
    """
    try:
        checksum, size = (_octal(header[at]) for at in (_CHECKSUM, _SIZE))
        if sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ") == checksum:
            return header[_KIND], header[_NAME].rstrip(b"\0").decode(), size
    except ValueError:
        pass
    raise DatasetInvalid(
        f"{shown} is no tar archive, or is damaged",
        remedy="It is read as it was published, neither unpacked nor compressed; copy it again.",
    )


def _octal(field: bytes) -> int:
    """Stricter than `int`, which takes signs: by a negative size one would hop back, for ever."""
    if not (digits := _OCTAL.fullmatch(field)):
        raise ValueError(field)
    return int(digits[1], 8)
