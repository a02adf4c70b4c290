"""The readers that are compared, each as one function from a region's corner to its pixels."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from microtome.config import MppSettings
from microtome.slides.content import SlideFiles
from microtome.slides.slide import SlideRef
from microtome.slides.tiff_flavours import read_layout
from microtome.slides.tiff_jpeg import complete_jpeg
from microtome.slides.tiff_opening import open_tiff
from microtome.slides.tiff_reader import TiffReader
from microtome.slides.tiff_source import LocalFile

REGION_PX = 512

Corner = tuple[int, int]
Read = Callable[[Corner], Any]


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        name: as the table shows it.
        opened: a context that opens the slide and gives the function that reads a region.
        threads: how many of them read at once.
        needs: the distribution it comes from; None for this project's dependencies.
        aligned_only: it knows whole tiles only.
    """

    name: str
    opened: Callable[[Path], Any]
    threads: int = 1
    needs: str | None = None
    aligned_only: bool = False

    @property
    def is_here(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


@contextmanager
def openslide(path: Path) -> Iterator[Read]:
    from openslide import OpenSlide

    with OpenSlide(path) as slide:
        yield lambda corner: np.asarray(
            slide.read_region(corner, 0, (REGION_PX, REGION_PX)).convert("RGB")
        )


@contextmanager
def openslide_halved(path: Path) -> Iterator[Read]:
    with openslide(path) as read:
        yield lambda corner: _halved(read(corner))


@contextmanager
def tiffslide(path: Path) -> Iterator[Read]:
    from tiffslide import TiffSlide

    with TiffSlide(path) as slide:
        yield lambda corner: slide.read_region(corner, 0, (REGION_PX, REGION_PX), as_array=True)


@contextmanager
def cucim(path: Path) -> Iterator[Read]:
    from cucim import CuImage

    slide = CuImage(str(path))
    yield lambda corner: np.asarray(slide.read_region(corner, (REGION_PX, REGION_PX), level=0))


@contextmanager
def microtome(path: Path) -> Iterator[Read]:
    with _opened(path) as slide:
        yield lambda corner: slide.read_region(*corner, 0, REGION_PX, REGION_PX)


@contextmanager
def microtome_halved(path: Path) -> Iterator[Read]:
    side = REGION_PX // 2
    with _opened(path) as slide:
        yield lambda corner: slide.read_reduced(*corner, 0, side, side, reduction=2)


@contextmanager
def limit(path: Path, reduction: int = 1) -> Iterator[Read]:
    """The decoder alone: complete streams that lie in memory, their pixels thrown away."""
    with LocalFile(str(path), path.name) as source:
        level = read_layout(source).levels[0]
        size, tables = level.encoding.tile_size_px, level.encoding.jpeg_tables
        rows, columns = len(level.offsets) // level.columns, level.columns
        streams = {
            (column * size[1], row * size[0]): complete_jpeg(
                source.read([level.tile_range(row * columns + column)])[0],
                tables,
                level.encoding.ycbcr,
                size,
            )
            for row, column in itertools.product(range(rows), range(columns))
        }

    def read(corner: Corner) -> None:
        steps = (range(0, REGION_PX, side) for side in size)
        for dy, dx in itertools.product(*steps):
            simplejpeg.decode_jpeg(
                streams[corner[0] + dx, corner[1] + dy],
                "RGB",
                min_height=size[0] // reduction,
                min_width=size[1] // reduction,
            )

    yield read


@contextmanager
def limit_halved(path: Path) -> Iterator[Read]:
    with limit(path, reduction=2) as read:
        yield read


def _opened(path: Path) -> TiffReader:
    files = SlideFiles(SlideRef(path.name, str(path)), (str(path),), "", path.stat().st_size)
    return open_tiff(files, LocalFile(str(path), path.name), MppSettings())


def _halved(pixels: np.ndarray) -> np.ndarray:
    import cv2

    side = REGION_PX // 2
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


FULL = (
    Contender("OpenSlide", openslide),
    Contender("tiffslide", tiffslide, needs="tiffslide"),
    Contender("cuCIM on the CPU", cucim, needs="cucim"),
    Contender("Microtome", microtome),
    Contender("Microtome, two threads", microtome, threads=2),
    Contender("the codec alone", limit, aligned_only=True),
    Contender("the codec alone, two threads", limit, threads=2, aligned_only=True),
)

HALVED = (
    Contender("OpenSlide", openslide_halved),
    Contender("Microtome", microtome_halved),
    Contender("Microtome, two threads", microtome_halved, threads=2),
    Contender("the codec alone", limit_halved, aligned_only=True),
    Contender("the codec alone, two threads", limit_halved, threads=2, aligned_only=True),
)
