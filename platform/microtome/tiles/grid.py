"""Where the tiles of a slide lie: pure arithmetic, in level-0 pixels.

Size and step are real numbers there (224 px of 0.5 µm are 448.9 px of 0.4988 µm). Corners are
rounded from i × step each, so nothing drifts across a slide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from microtome.config import GridSettings, check_positive
from microtome.slides.slide import Slide


@dataclass(frozen=True, slots=True)
class TileGrid(Sequence[tuple[int, int]]):
    """Corners (x, y) of every whole tile on a slide, row by row.

    Only whole tiles: a tile that would leave the slide on the right or below is none, and a slide
    smaller than a tile has none.

    Attributes:
        width_px: of the slide, level-0 pixels.
        height_px: of the slide, level-0 pixels.
        mpp: of the slide, µm per level-0 pixel.
        settings: the wanted grid.
    """

    width_px: int
    height_px: int
    mpp: float
    settings: GridSettings

    def __post_init__(self) -> None:
        check_positive("mpp", self.mpp)
        if self.width_px < 0 or self.height_px < 0:
            raise ValueError(f"no slide is {self.width_px} × {self.height_px} pixels")

    @classmethod
    def of(cls, slide: Slide, settings: GridSettings) -> TileGrid:
        """The grid of an opened slide."""
        return cls(slide.width_px, slide.height_px, slide.mpp, settings)

    @property
    def size_px(self) -> int:
        """Side of a tile in level-0 pixels, ≥ 1."""
        return max(1, round(self.settings.tile_px * self.settings.mpp / self.mpp))

    @property
    def step_px(self) -> float:
        """Distance between neighbouring corners in level-0 pixels, not rounded."""
        return self.settings.stride_px * self.settings.mpp / self.mpp

    @property
    def columns(self) -> int:
        """Tiles side by side."""
        return self._count(self.width_px)

    @property
    def rows(self) -> int:
        """Tiles one below the other."""
        return self._count(self.height_px)

    def _count(self, length_px: int) -> int:
        """How many i ≥ 0 have round(i × step) + size ≤ length."""
        room = length_px - self.size_px
        if room < 0:
            return 0
        # round(v) ≤ room while v ≤ room + ½, so one guess from the quotient is off by one at most.
        count = math.floor((room + 0.5) / self.step_px) + 2
        while round((count - 1) * self.step_px) > room:
            count -= 1
        return count

    def corners(self) -> NDArray[np.int64]:
        """All corners, (N, 2) int64, x and y in level-0 pixels, row by row."""
        xs = np.rint(np.arange(self.columns) * self.step_px).astype(np.int64)
        ys = np.rint(np.arange(self.rows) * self.step_px).astype(np.int64)
        return np.stack([np.tile(xs, len(ys)), np.repeat(ys, len(xs))], axis=1)

    def __len__(self) -> int:
        return self.columns * self.rows

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row, column = divmod(range(len(self))[index], self.columns)
        return round(column * self.step_px), round(row * self.step_px)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return (self[i] for i in range(len(self)))
