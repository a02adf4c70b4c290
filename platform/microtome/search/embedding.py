"""From pictures to vectors of unit length, ready to be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.vector_index import unit
from microtome.models.encoder import Encoder
from microtome.search import patience
from microtome.search.picture import cover
from microtome.slides.slide import Pixels

ENCODE_BATCH: Final = 16


def embed(encoder: Encoder, pixels: Pixels, tile_px: int) -> NDArray[np.float32]:
    """The vectors of the tiles that cover a picture of any size.

    A hit's score is its cosine with the one that it resembles most, so it looks like some part of
    the picture. Their mean would look for tiles that mix all parts, and was seen to miss the very
    place that a picture was cut from.

    Args:
        encoder: embeds tiles.
        pixels: (H, W, 3) uint8 at the mpp that the encoder's tiles have.
        tile_px: side of a tile.

    Returns:
        (Q, D) float32, each row of unit length.
    """
    tiles = cover(pixels, tile_px)
    return encoded(encoder, len(tiles), lambda part: tiles[part])


def encoded(
    encoder: Encoder, count: int, pictures: Callable[[slice], NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """(count, D) vectors of unit length of so many pictures, which are asked for in parts.

    Raises:
        DeadlinePassed: nobody waits for them any more.
    """
    vectors = []
    for start in range(0, count, ENCODE_BATCH):
        patience.check()
        vectors.append(encoder.encode(pictures(slice(start, start + ENCODE_BATCH))))
    return unit(np.concatenate(vectors))
