"""Small tiled TIFFs of every kind that the direct reader takes, and ways to damage them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile

JPEG_TABLES = 347
_RGB, _YCBCR = 2, 6


@dataclass(frozen=True)
class Kind:
    """How a TIFF is written.

    Attributes:
        compression: as tifffile names it.
        colours: of JPEG tiles, `ycbcr` or `rgb` (as Aperio does, with no word in the tile).
        subsampling: of JPEG chroma, across and down.
        shared_tables: put JPEG tables into the JPEGTables tag instead of every tile.
        tile: height and width of the tiles.
        header: further arguments of tifffile's write for the first image.
        file: arguments of tifffile.TiffWriter.
    """

    compression: Any = "jpeg"
    colours: str = "ycbcr"
    subsampling: tuple[int, int] = (2, 2)
    shared_tables: bool = False
    tile: tuple[int, int] = (64, 64)
    header: dict[str, Any] = field(default_factory=dict)
    file: dict[str, Any] = field(default_factory=dict)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blotches of some 32 px with grain: a picture JPEG can hold, and no two places alike."""
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 200, (height // 32 + 2, width // 32 + 2, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + random.integers(-9, 10, (height, width, 1)), 0, 255).astype(np.uint8)


def halved(pixels: np.ndarray) -> np.ndarray:
    """The next level of a pyramid, sides rounded down."""
    size = pixels.shape[1] // 2, pixels.shape[0] // 2
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def write_tiff(path: Path, levels: Sequence[np.ndarray], kind: Kind = Kind()) -> Path:
    """Write levels, finest first, each a directory of tiles."""
    with tifffile.TiffWriter(path, **kind.file) as tiff:
        for number, pixels in enumerate(levels):
            page = _page(pixels, kind)
            if not number:
                tags = [*page.get("extratags", []), *kind.header.get("extratags", [])]
                page |= {**kind.header, "extratags": tags}
            tiff.write(**page, subfiletype=min(number, 1), metadata=None)
    return path


def write_ome(path: Path, levels: Sequence[np.ndarray], kind: Kind = Kind(), **pixels: Any) -> Path:
    """Write an OME-TIFF whose further levels are SubIFDs; `pixels` overrides its attributes."""
    height, width = levels[0].shape[:2]
    attributes = dict(SizeX=width, SizeY=height, SizeC=3, SizeZ=1, SizeT=1, Type="uint8")  # noqa: C408
    attributes |= {
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.25,
        "DimensionOrder": "XYCZT",
        **pixels,
    }
    said = " ".join(f'{name}="{value}"' for name, value in attributes.items() if value is not None)
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" {said}><Channel ID="Channel:0" SamplesPerPixel="3"/>'
        '<TiffData IFD="0"/></Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(path, **kind.file) as tiff:
        for number, one in enumerate(levels):
            first = {} if number else {"description": xml.encode(), "subifds": len(levels) - 1}
            tiff.write(**_page(one, kind), **first, subfiletype=min(number, 1), metadata=None)
    return path


def overwrite_tag(path: Path, code: int, change: Any, page: int = 0) -> Path:
    """Write a tag of a finished file anew: `change` makes the new value of the old one."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[page].tags[code]
        tag.overwrite(change(tag.value))
    return path


def _page(pixels: np.ndarray, kind: Kind) -> dict[str, Any]:
    if kind.compression != "jpeg":
        return {
            "data": pixels,
            "tile": kind.tile,
            "compression": kind.compression,
            "photometric": "rgb",
        }
    tables, tiles = _jpeg_tiles(pixels, kind)
    return {
        "data": iter(tiles),
        "shape": pixels.shape,
        "dtype": np.uint8,
        "tile": kind.tile,
        "compression": "jpeg",
        "photometric": _RGB if kind.colours == "rgb" else _YCBCR,
        "subsampling": (1, 1) if kind.colours == "rgb" else kind.subsampling,
        "compressionargs": {"outcolorspace": kind.colours},
        "extratags": [(JPEG_TABLES, 7, len(tables), tables, True)] if tables else [],
    }


def _jpeg_tiles(pixels: np.ndarray, kind: Kind) -> tuple[bytes, list[bytes]]:
    encoded = [
        imagecodecs.jpeg8_encode(
            tile,
            level=85,
            colorspace="rgb",
            outcolorspace=kind.colours,
            subsampling="444" if kind.colours == "rgb" else _NAMES[kind.subsampling],
        )
        for tile in _tiles(pixels, kind.tile)
    ]
    if not kind.shared_tables:
        return b"", [_without(tile, range(0xE0, 0xF0)) for tile in encoded]
    tables = _only(encoded[0], (0xDB, 0xC4))
    return tables, [_without(tile, [0xDB, 0xC4, *range(0xE0, 0xF0)]) for tile in encoded]


_NAMES = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}


def _tiles(pixels: np.ndarray, tile: tuple[int, int]) -> Iterator[np.ndarray]:
    height, width = pixels.shape[:2]
    for top in range(0, height, tile[0]):
        for left in range(0, width, tile[1]):
            part = pixels[top : top + tile[0], left : left + tile[1]]
            rest = tile[0] - part.shape[0], tile[1] - part.shape[1]
            padded = np.pad(part, ((0, rest[0]), (0, rest[1]), (0, 0)), mode="edge")
            yield np.ascontiguousarray(padded)


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment; the scan with all that follows is the last."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        yield jpeg[at + 1], jpeg[at:end]
        at = end
    yield 0xDA, jpeg[at:]


def _without(jpeg: bytes, markers: Sequence[int]) -> bytes:
    return b"\xff\xd8" + b"".join(part for marker, part in _segments(jpeg) if marker not in markers)


def _only(jpeg: bytes, markers: Sequence[int]) -> bytes:
    kept = b"".join(part for marker, part in _segments(jpeg) if marker in markers)
    return b"\xff\xd8" + kept + b"\xff\xd9"
