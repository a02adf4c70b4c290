"""The readers that are compared, each as one function from a region's corner to its pixels."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
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
HALF = (REGION_PX // 2, REGION_PX // 2)

Corner = tuple[int, int]
Read = Callable[[Corner], Any]
Opened = Callable[[Path], AbstractContextManager[Read]]


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
    opened: Opened
    threads: int = 1
    needs: str | None = None
    aligned_only: bool = False

    @property
    def is_here(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def reads(self, shift_px: int) -> bool:
        """Whether it reads regions that lie so far off the grid."""
        return not (shift_px and self.aligned_only)


@contextmanager
def openslide(path: Path) -> Iterator[Read]:
    from openslide import OpenSlide

    with OpenSlide(path) as slide:
        yield lambda corner: np.asarray(
            slide.read_region(corner, 0, (REGION_PX, REGION_PX)).convert("RGB")
        )


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
def fastslide(path: Path) -> Iterator[Read]:
    from fastslide import FastSlide

    slide = FastSlide.from_file_path(str(path))
    yield lambda corner: slide.read_region(corner, 0, (REGION_PX, REGION_PX)).numpy()


@contextmanager
def microtome(path: Path) -> Iterator[Read]:
    with _opened(path) as slide:
        yield lambda corner: slide.read_region(*corner, 0, REGION_PX, REGION_PX)


@contextmanager
def microtome_halved(path: Path) -> Iterator[Read]:
    with _opened(path) as slide:
        yield lambda corner: slide.read_reduced(*corner, 0, *HALF, reduction=2)


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


def halved(opened: Opened) -> Opened:
    """Of a reader that can't shrink while it decodes."""

    @contextmanager
    def opened_halved(path: Path) -> Iterator[Read]:
        with opened(path) as read:
            yield lambda corner: cv2.resize(read(corner), HALF, interpolation=cv2.INTER_AREA)

    return opened_halved


OURS, CODEC, TWO = "Microtome", "the codec alone", ", two threads"

# LazySlide reads through wsidata, that through OpenSlide, or tiffslide or fastslide if asked to.
FULL = (
    Contender("OpenSlide", openslide),
    Contender("tiffslide", tiffslide, needs="tiffslide"),
    Contender("fastslide", fastslide, needs="fastslide"),
    Contender("cuCIM on the CPU", cucim, needs="cucim"),
    Contender(OURS, microtome),
    Contender(OURS + TWO, microtome, threads=2),
    Contender(CODEC, limit, aligned_only=True),
    Contender(CODEC + TWO, limit, threads=2, aligned_only=True),
)

HALVED = (
    Contender("OpenSlide", halved(openslide)),
    Contender("tiffslide", halved(tiffslide), needs="tiffslide"),
    Contender("fastslide", halved(fastslide), needs="fastslide"),
    Contender("cuCIM on the CPU", halved(cucim), needs="cucim"),
    Contender(OURS, microtome_halved),
    Contender(OURS + TWO, microtome_halved, threads=2),
    Contender(CODEC, limit_halved, aligned_only=True),
    Contender(CODEC + TWO, limit_halved, threads=2, aligned_only=True),
)
