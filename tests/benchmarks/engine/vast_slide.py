"""A slide of any size in a few hundred KB: many tiles of a pyramid share the same bytes.

A BigTIFF written by hand, since no TIFF library shares data between tiles on purpose. Every level
is tiled JPEG; each tile is one of two pictures, tissue or glass, by a map of coarse blocks.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

TILE_PX: Final = 256
BLOCK_PX: Final = 4096  # tissue and glass change only here, so every level agrees
SHORT, LONG, RATIONAL, LONG8, ASCII = 3, 4, 5, 16, 2


def write_vast_slide(path: Path, side_px: int, tissue: float, picture: NDArray[np.uint8]) -> None:
    """Write a slide.

    Args:
        path: a `.tif`.
        side_px: width and height at level 0, 0.5 µm per pixel.
        tissue: share of the slide that is tissue, in blocks of 4096 px.
        picture: (256, 256, 3) uint8, what tissue looks like; every tissue tile is this.
    """
    glass = np.full((TILE_PX, TILE_PX, 3), 243, np.uint8)
    jpegs = [simplejpeg.encode_jpeg(p, 85, colorsubsampling="420") for p in (glass, picture)]
    blocks = np.random.default_rng(0).random((-(-side_px // BLOCK_PX),) * 2) < tissue
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        places = []
        for jpeg in jpegs:
            places.append((file.tell(), len(jpeg)))
            file.write(jpeg)
        link = 8  # where the offset of the next directory is to be written
        for level in range(5):
            downsample = 4**level
            if side_px // downsample < TILE_PX:
                break
            link = _write_level(file, link, side_px // downsample, downsample, blocks, places)


def _write_level(file, link, side_px, downsample, blocks, places) -> int:
    across = -(-side_px // TILE_PX)
    centres = ((np.arange(across) + 0.5) * TILE_PX * downsample / BLOCK_PX).astype(int)
    centres = centres.clip(max=len(blocks) - 1)
    kinds = blocks[np.ix_(centres, centres)].astype(int).ravel()
    offsets, counts = np.array(places, np.uint64)[kinds].T
    entries = [
        (254, LONG, [1 if downsample > 1 else 0]),
        (256, LONG, [side_px]),
        (257, LONG, [side_px]),
        (258, SHORT, [8, 8, 8]),
        (259, SHORT, [7]),
        (262, SHORT, [6]),
        (277, SHORT, [3]),
        (282, RATIONAL, [20000, downsample]),
        (283, RATIONAL, [20000, downsample]),
        (284, SHORT, [1]),
        (296, SHORT, [3]),
        (322, LONG, [TILE_PX]),
        (323, LONG, [TILE_PX]),
        (324, LONG8, offsets),
        (325, LONG, counts),
        (530, SHORT, [2, 2]),
    ]
    packed = [(tag, kind, *_packed(kind, values)) for tag, kind, values in entries]
    directory = _aligned(file)
    data_at = directory + 8 + 20 * len(packed) + 8
    table, data = struct.pack("<Q", len(packed)), b""
    for tag, kind, count, raw in packed:
        if len(raw) <= 8:
            table += struct.pack("<HHQ8s", tag, kind, count, raw)
        else:
            table += struct.pack("<HHQQ", tag, kind, count, data_at + len(data))
            data += raw
    file.write(table + struct.pack("<Q", 0) + data)
    file.seek(link)
    file.write(struct.pack("<Q", directory))
    file.seek(0, 2)
    return directory + len(table)


def _packed(kind: int, values) -> tuple[int, bytes]:
    count = 1 if kind == RATIONAL else len(values)
    width = {SHORT: "<u2", LONG: "<u4", RATIONAL: "<u4", LONG8: "<u8"}[kind]
    return count, np.asarray(values).astype(width).tobytes()


def _aligned(file) -> int:
    file.seek(0, 2)
    file.write(b"\0" * (-file.tell() % 8))
    return file.tell()
