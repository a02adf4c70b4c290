"""Damaged and lying TIFFs: a typed error, soon and in little memory, and never a wrong picture."""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from microtome.config import MppSettings
from microtome.errors import SlideError, SlideTruncated, SlideUnreadable, TileReadFailed
from microtome.slides.content import SlideFiles
from microtome.slides.slide import SlideRef
from microtome.slides.tiff_directory import Directory, read_directories
from microtome.slides.tiff_layout import LeftToOpenSlide
from microtome.slides.tiff_opening import open_tiff
from microtome.slides.tiff_reader import TiffReader
from microtome.slides.tiff_source import LocalFile
from support.made_tiffs import JPEG_TABLES, Kind, halved, overwrite_tag, picture, write_tiff
from support.memory import watched_memory

WIDTH, HEIGHT, COMPRESSION = 256, 257, 259
RATIONAL, FLOAT = 5, 11
TILE_WIDTH, TILE_OFFSETS, TILE_BYTE_COUNTS = 322, 324, 325

MUTATIONS = int(os.environ.get("MICROTOME_TIFF_MUTATIONS", "60"))
"""500 in the long form."""


def opened(path: Path) -> TiffReader:
    files = SlideFiles(SlideRef("some", str(path)), (str(path),), "id", path.stat().st_size)
    return open_tiff(files, LocalFile(str(path), "some"), MppSettings(assume_mpp=0.25))


def read_all(path: Path) -> None:
    """Open, and read all of every level in squares."""
    with opened(path) as reader:
        for number, level in enumerate(reader.slide.levels):
            step = round(1024 * level.downsample)
            for y in range(0, reader.slide.height_px, step):
                for x in range(0, reader.slide.width_px, step):
                    reader.read_region(x, y, number, 1024, 1024)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    pixels = picture(200, 300)
    return write_tiff(tmp_path / "good.tif", [pixels, halved(pixels)], Kind(shared_tables=True))


def each(values: tuple[int, ...], change: Callable[[int], int]) -> list[int]:
    return [change(value) for value in values]


@pytest.mark.parametrize(
    ("tag", "change", "error", "says"),
    [
        (TILE_OFFSETS, lambda v: each(v, lambda one: one + 10**6), SlideTruncated, "bytes"),
        (TILE_OFFSETS, lambda v: [2**32 - 1, *v[1:]], SlideTruncated, "bytes"),
        (TILE_BYTE_COUNTS, lambda v: [2**32 - 1, *v[1:]], SlideTruncated, "bytes"),
        (TILE_BYTE_COUNTS, lambda v: each(v, lambda one: one * 50), SlideTruncated, "bytes"),
        (TILE_BYTE_COUNTS, lambda v: v[:-1], SlideUnreadable, "asks for 20 tiles"),
        (WIDTH, lambda v: v * 1000, SlideUnreadable, "tiles"),
        (HEIGHT, lambda v: 2**31, SlideUnreadable, "tiles"),
        (WIDTH, lambda v: 0, SlideUnreadable, "0 × 200"),
        (TILE_WIDTH, lambda v: 16, SlideUnreadable, "tiles"),
        (TILE_WIDTH, lambda v: 128, TileReadFailed, "can't be decoded at tile"),
        (JPEG_TABLES, lambda v: v[:-100], LeftToOpenSlide, "tables"),
        (COMPRESSION, lambda v: 8, LeftToOpenSlide, "photometric 6"),
        (COMPRESSION, lambda v: 50001, LeftToOpenSlide, "compression 50001"),
    ],
)
def test_a_lying_header_is_refused(
    good: Path, tag: int, change: Callable[..., object], error: type[Exception], says: str
) -> None:
    overwrite_tag(good, tag, change)
    with pytest.raises(error, match=says):
        read_all(good)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FLOAT, struct.pack("<f", math.inf)),
        (FLOAT, struct.pack("<f", math.nan)),
        (FLOAT, struct.pack("<f", 200.5)),
        (RATIONAL, struct.pack("<II", 1, 0)),
        (RATIONAL, struct.pack("<II", 0, 0)),
    ],
)
@pytest.mark.parametrize("read", [Directory.number, Directory.children])
def test_fractions_where_whole_numbers_belong_are_refused(
    good: Path, kind: int, value: bytes, read: Callable[[Directory, int], object]
) -> None:
    data = bytearray(good.read_bytes())
    with tifffile.TiffFile(good) as tiff:
        at = tiff.pages[0].tags[WIDTH].offset
    field = value if len(value) == 4 else struct.pack("<I", len(data))
    struct.pack_into("<HI4s", data, at + 2, kind, 1, field)
    good.write_bytes(data + value)
    first, *_ = read_directories(LocalFile(str(good), "some"))
    with pytest.raises(SlideUnreadable, match="some is damaged: tag 256 holds fractions"):
        read(first, WIDTH)


def test_a_byte_count_beyond_all_need_is_refused(tmp_path: Path) -> None:
    """Inside the file, so it could be read: 64 × 64 px from 3 MB."""
    path = write_tiff(tmp_path / "fat.tif", [picture(200, 300)])
    with path.open("ab") as file:
        file.write(bytes(3_000_000))
    overwrite_tag(path, TILE_BYTE_COUNTS, lambda values: [2_500_000, *values[1:]])
    with pytest.raises(SlideUnreadable, match="stored in 2500000"):
        opened(path)


def test_a_file_cut_anywhere_is_refused(good: Path) -> None:
    """tifffile writes directories in front of the tiles, so a cut leaves the first ones whole."""
    whole = good.read_bytes()
    for size in np.linspace(0, len(whole) - 1, 60, dtype=int):
        good.write_bytes(whole[:size])
        with pytest.raises((SlideTruncated, SlideUnreadable, LeftToOpenSlide)):
            read_all(good)


@pytest.mark.parametrize("big", [False, True])
def test_directories_in_a_loop_are_refused(tmp_path: Path, big: bool) -> None:
    pixels = picture(100, 100)
    path = write_tiff(tmp_path / "loop.tif", [pixels, halved(pixels)], Kind(file={"bigtiff": big}))
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[1].offset
    data = bytearray(path.read_bytes())
    width, entry, number = (8, 20, "<Q") if big else (2, 12, "<H")
    count = struct.unpack_from(number, data, last)[0]
    struct.pack_into("<Q" if big else "<I", data, last + width + count * entry, first)
    path.write_bytes(data)
    with pytest.raises(SlideUnreadable, match="never end"):
        opened(path)


@pytest.mark.parametrize(
    ("entries", "says"), [(60_000, "a directory of 60000"), (0, "a directory of 0")]
)
def test_a_directory_of_absurd_length_is_refused(good: Path, entries: int, says: str) -> None:
    data = bytearray(good.read_bytes())
    struct.pack_into("<H", data, struct.unpack_from("<I", data, 4)[0], entries)
    good.write_bytes(data)
    with pytest.raises(SlideUnreadable, match=says):
        opened(good)


def test_a_tag_of_billions_of_values_is_refused_unread(good: Path) -> None:
    data = bytearray(good.read_bytes())
    with tifffile.TiffFile(good) as tiff:
        at = tiff.pages[0].tags[TILE_OFFSETS].offset
    struct.pack_into("<I", data, at + 4, 2**32 - 1)
    good.write_bytes(data)
    with pytest.raises(SlideUnreadable, match="4294967295 values"):
        opened(good)


@pytest.mark.parametrize("compression", ["jpeg", "zlib", "lzw", 33005])
def test_a_corrupt_tile_spoils_only_itself(tmp_path: Path, compression: object) -> None:
    description = {"description": "Aperio|MPP=0.5"}
    path = write_tiff(
        tmp_path / "some.svs", [picture(200, 300)], Kind(compression, header=description)
    )
    with opened(path) as reader:
        before = reader.read_region(0, 0, 0, 64, 64)
    with tifffile.TiffFile(path) as tiff:
        start, size = tiff.pages[0].dataoffsets[7], tiff.pages[0].databytecounts[7]
    data = bytearray(path.read_bytes())
    data[start : start + size // 2] = bytes(size // 2)
    path.write_bytes(data)
    with opened(path) as reader:
        with pytest.raises(
            TileReadFailed, match=r"some can't be decoded at tile \(2, 1\) of level 0"
        ):
            reader.read_region(0, 0, 0, 300, 200)
        np.testing.assert_array_equal(reader.read_region(0, 0, 0, 64, 64), before)


def test_a_jpeg_that_claims_another_size_is_refused_undecoded(tmp_path: Path) -> None:
    """65,500 × 65,500 px in a tile of 64 × 64: decoded, it would take 12 GB."""
    path = write_tiff(tmp_path / "bomb.tif", [picture(64, 64)])
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, 65_500, 65_500)
    path.write_bytes(data)
    with opened(path) as reader, pytest.raises(TileReadFailed, match="65500"):
        reader.read_region(0, 0, 0, 64, 64)


def test_missing_jpeg_tables_are_missed(good: Path) -> None:
    """The tag turned into another: tiles without quantisation tables."""
    data = bytearray(good.read_bytes())
    with tifffile.TiffFile(good) as tiff:
        for page in tiff.pages:
            struct.pack_into("<H", data, page.tags[JPEG_TABLES].offset, 60_000)
    good.write_bytes(data)
    with pytest.raises(TileReadFailed, match="table"):
        read_all(good)


def test_mutations_of_a_real_slide_end_in_pixels_or_a_typed_error(
    real_data: Path, tmp_path: Path
) -> None:
    """Random bytes at random places, half of them in the directories; nothing else escapes."""
    whole = (real_data / "wsi" / "CMU-1-Small-Region.svs").read_bytes()
    with tifffile.TiffFile(real_data / "wsi" / "CMU-1-Small-Region.svs") as tiff:
        directories = [(page.offset, page.offset + 2 + 12 * len(page.tags)) for page in tiff.pages]
    random = np.random.default_rng(2026)
    path = tmp_path / "mutated.svs"
    ends: dict[str, int] = {}
    with watched_memory() as growth:
        for number in range(MUTATIONS):
            data = bytearray(whole)
            places = (
                directories[random.integers(len(directories))] if number % 2 else (0, len(whole))
            )
            for _ in range(random.integers(1, 9)):
                data[random.integers(*places)] = random.integers(256)
            path.write_bytes(data)
            start = time.perf_counter()
            try:
                read_all(path)
                end = "read"
            except (SlideError, LeftToOpenSlide) as error:
                end = type(error).__name__
            ends[end] = ends.get(end, 0) + 1
            assert time.perf_counter() - start < 20, f"mutation {number} hangs"
    assert len(ends) >= 3, ends
    assert growth.most_bytes < 2**30
