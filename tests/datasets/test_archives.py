"""Tar archives are read where they lie; a damaged one is told from a whole one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.datasets.archives import archive_members
from microtome.errors import DatasetError, DatasetInvalid, DatasetNotFound
from support.labelled_sets import tar_of
from support.object_store import ObjectStore

FILES = {"a.txt": b"hello", "b/c.bin": bytes(range(256)) * 5, "empty": b""}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def _found(path: Path) -> dict[str, bytes]:
    data = path.read_bytes()
    return {
        row["name"]: data[row["offset"] : row["offset"] + row["size"]]
        for row in archive_members(str(path), path.name).to_pylist()
    }


def test_files_lie_where_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(FILES))

    assert _found(tmp_path / "a.tar") == FILES


def test_archives_within_are_opened_and_folders_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("plain"))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        inner = tarfile.TarInfo("inner.tar")
        inner.size = len(tar_of(FILES))
        archive.addfile(inner, io.BytesIO(tar_of(FILES)))

    assert _found(tmp_path / "a.tar") == {
        "plain": b"",
        **{f"inner.tar/{name}": content for name, content in FILES.items()},
    }


WHOLE = tar_of({"inner.tar": tar_of(FILES), **FILES})


@given(st.integers(1, len(WHOLE.rstrip(b"\0"))))
def test_an_archive_cut_short_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.tar"
    path.write_bytes(WHOLE[:length])

    with pytest.raises(DatasetInvalid, match=r"a\.tar"):
        archive_members(str(path), "a.tar")


@pytest.mark.parametrize("content", [b"no archive" * 100, b"\x1f\x8b" + b"\0" * 600])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)

    with pytest.raises(DatasetInvalid, match=r"shown\.tar is no tar archive"):
        archive_members(str(tmp_path / "a.tar"), "shown.tar")


@pytest.mark.parametrize("size", [b"-0000000001\0", b"-00000001000", b"+0000000001\0", b"0_1\0"])
def test_a_size_that_is_no_octal_number_is_refused(tmp_path: Path, size: bytes) -> None:
    header = bytearray(tar_of({"a": b"x"}))
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 8 * ord(" "))
    (tmp_path / "a.tar").write_bytes(header)

    with pytest.raises(DatasetInvalid, match=r"a\.tar is no tar archive"):
        archive_members(str(tmp_path / "a.tar"), "a.tar")


def test_what_isn_t_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"shown\.tar"):
        archive_members(str(tmp_path / "a.tar"), "shown.tar")


def test_a_second_look_comes_from_the_cache_and_a_changed_file_does_not(
    tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(FILES))
    archive_members(str(path), "a.tar")
    kept = list(cache.rglob("*.arrow"))

    path.write_bytes(tar_of({"other": b"hello"} | FILES))
    os.utime(path, (1, 1))

    assert len(kept) == 1
    assert "other" in _found(path)


def test_a_damaged_or_unwritable_cache_does_no_harm(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(FILES))
    archive_members(str(path), "a.tar")
    for kept in cache.rglob("*.arrow"):
        kept.write_bytes(b"no arrow")

    assert _found(path) == FILES


def test_an_archive_in_a_store_is_read_by_its_headers(s3: ObjectStore) -> None:
    bucket = s3.bucket({"a.tar": WHOLE})

    members = archive_members(f"{bucket}/a.tar", f"{bucket}/a.tar").to_pylist()

    assert [row["name"] for row in members] == [*FILES, *(f"inner.tar/{name}" for name in FILES)]
    with pytest.raises(DatasetError):
        archive_members(f"{bucket}/gone.tar", f"{bucket}/gone.tar")
