"""A query as a model sees it, from any side; the pictures that it is given are counted."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.models.encoder import Encoder
from microtome.search.embedding import encoded
from microtome.search.region_asked import LookedAt
from microtome.search.region_picture import tile_of
from microtome.search.region_placement import Floats

STAINED_MOST: Final = 200
"""Darkest channel of tissue, averaged over sixteenths of a tile, beside glass of about 240: as
`tiles.tissue.OD_MOST`."""

_COARSE: Final = (16, 16)


class Eye:
    """Sees a query from any side, as a model does; counts what the model is given.

    Args:
        asked: the query.
        encoder: the model.
        tile_px: side of a picture.
    """

    def __init__(self, asked: LookedAt, encoder: Encoder, tile_px: int) -> None:
        self._asked = asked
        self._tile_px = tile_px
        self.encoder = encoder
        self.embedded = 0

    def pictures(self, points: Floats, turns: Floats) -> NDArray[np.uint8]:
        """(N, tile_px, tile_px, 3) around points (N, 2) of the query, each with its turn."""
        canvas, middle = self._asked.canvas, self._asked.middle
        return np.stack(
            [
                tile_of(canvas, point + middle, turn, self._tile_px)
                for point, turn in zip(points, turns, strict=True)
            ]
        )

    def vectors(self, points: Floats, turns: Floats) -> NDArray[np.float32]:
        """(N, D) of unit length, of those pictures."""
        self.embedded += len(points)
        return encoded(
            self.encoder, len(points), lambda part: self.pictures(points[part], turns[part])
        )

    def tissue(self, points: Floats, turns: Floats) -> NDArray[np.bool_]:
        """(N,) whether at least half of each picture is darker than glass; nothing is embedded."""
        pictures = self.pictures(points, turns)
        coarse = [cv2.resize(one, _COARSE, interpolation=cv2.INTER_AREA) for one in pictures]
        stained = np.stack(coarse).min(axis=3) < STAINED_MOST
        return np.asarray(stained.mean(axis=(1, 2)) >= 0.5)
