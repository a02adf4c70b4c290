"""A slide's identity: its bytes, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.slides.content import EDGE_BYTES, content_id, sampled_ranges
from support.object_store import ObjectStore

MEGABYTE = bytes(range(256)) * 4096


def identity(*contents: bytes, folder) -> str:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}.bin")
        paths[-1].write_bytes(content)
    return content_id([str(path) for path in paths])[0]


def test_it_is_32_hex_characters_and_the_size_of_all_files(tmp_path):
    (tmp_path / "a").write_bytes(MEGABYTE)
    (tmp_path / "b").write_bytes(b"xy")
    name, size = content_id([str(tmp_path / "a"), str(tmp_path / "b")])
    assert len(name) == 32
    assert int(name, 16) >= 0
    assert size == len(MEGABYTE) + 2


def test_names_and_their_order_do_not_count(tmp_path):
    one, other = MEGABYTE, MEGABYTE[::-1]
    assert identity(one, other, folder=tmp_path) == identity(other, one, folder=tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        MEGABYTE[:-1],  # truncated by one byte
        MEGABYTE + b"\0",
        b"\x01" + MEGABYTE[1:],
        MEGABYTE[:-1] + b"\0",
        MEGABYTE[: len(MEGABYTE) // 2]
        + bytes(len(MEGABYTE) // 2 - EDGE_BYTES)
        + MEGABYTE[-EDGE_BYTES:],
    ],
    ids=["shorter", "longer", "head", "tail", "middle lost"],
)
def test_other_bytes_are_another_slide(tmp_path, changed):
    assert identity(changed, folder=tmp_path) != identity(MEGABYTE, folder=tmp_path)


def test_one_file_is_not_the_two_that_it_was_joined_from(tmp_path):
    assert identity(b"ab", folder=tmp_path) != identity(b"a", b"b", folder=tmp_path)


def test_it_is_the_same_in_a_bucket(s3: ObjectStore, tmp_path):
    bucket = s3.bucket({"in/slide.svs": MEGABYTE})
    assert content_id([f"{bucket}/in/slide.svs"])[0] == identity(MEGABYTE, folder=tmp_path)


@given(st.integers(0, 1 << 40))
def test_ranges_lie_in_the_file_and_stay_few(size):
    ranges = sampled_ranges(size)
    assert all(0 <= start < end <= size for start, end in ranges)
    assert len(ranges) <= 18
    assert sum(end - start for start, end in ranges) <= 200 * 1024
    if size:
        assert ranges[0][0] == 0
        assert max(end for _, end in ranges) == size
