"""A slide that lies in memory, so that a test knows every pixel of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import Self

import numpy as np

from microtome.errors import TileReadFailed
from microtome.slides.slide import Level, Pixels, Slide


class ArraySlide:
    """A `SlideReader` over one picture and its mean-pooled levels.

    Args:
        pixels: (height, width, 3) uint8, level 0.
        mpp: µm per level-0 pixel.
        downsamples: whole numbers, 1 first; a level drops the rest that fills no pixel.
        slide_id: as a manifest would name it.
        broken: level-0 corners (x, y) whose reading raises `TileReadFailed`.
    """

    def __init__(
        self,
        pixels: Pixels,
        mpp: float = 0.5,
        downsamples: Sequence[int] = (1, 2, 4),
        slide_id: str = "array",
        broken: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._levels = [_mean_pool(pixels, downsample) for downsample in downsamples]
        self._broken = frozenset(broken)
        self._lock = threading.Lock()
        self._bytes_read = 0
        self.reads: list[tuple[int, int, int, int, int]] = []
        """Every call of `read_region`: x, y, level, width_px, height_px."""
        self.closed = False
        self.slide = Slide(
            slide_id=slide_id,
            uri=f"memory://{slide_id}",
            content_id=hashlib.sha256(pixels.tobytes()).hexdigest(),
            size_bytes=pixels.nbytes,
            format="array",
            vendor="memory",
            reader="array",
            levels=tuple(
                Level(level.shape[1], level.shape[0], float(downsample))
                for level, downsample in zip(self._levels, downsamples, strict=True)
            ),
            mpp=mpp,
            mpp_source="slide",
        )

    @property
    def bytes_read(self) -> int:
        return self._bytes_read

    def read_region(self, x: int, y: int, level: int, width_px: int, height_px: int) -> Pixels:
        if self.closed:
            raise ValueError("the slide is closed")
        with self._lock:
            self.reads.append((x, y, level, width_px, height_px))
            self._bytes_read += width_px * height_px * 3
        if (x, y) in self._broken:
            raise TileReadFailed(f"{self.slide.slide_id} can't be decoded at {x}, {y}")
        source, downsample = self._levels[level], int(self.slide.levels[level].downsample)
        left, top = x // downsample, y // downsample
        region = np.full((height_px, width_px, 3), 255, np.uint8)
        inside = source[
            max(top, 0) : max(top + height_px, 0), max(left, 0) : max(left + width_px, 0)
        ]
        row, column = max(-top, 0), max(-left, 0)
        region[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
        return region

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mean_pool(pixels: Pixels, factor: int) -> Pixels:
    """Average each factor × factor block, rounding to nearest."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    means: Pixels = np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
    return means
