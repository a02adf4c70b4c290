"""Tiles in, unit vectors out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from microtome.models.card import ModelCard


class Encoder(Protocol):
    """Anything that embeds tiles; tests use one whose vector is the mean colour."""

    @property
    def card(self) -> ModelCard:
        """What it is."""
        ...

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed tiles.

        Args:
            pixels: (N, H, W, 3) uint8 RGB.

        Returns:
            (N, card.dim) float32, each row of unit length.
        """
        ...
