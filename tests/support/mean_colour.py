"""The simplest encoder that can be right: a tile's vector is its mean colour."""

from __future__ import annotations

import numpy as np

from microtome.models.card import ModelCard
from support.made_atlas import CARD


class MeanColour:
    """Embeds a tile as its mean colour, for atlases of `support.made_atlas`."""

    card: ModelCard = CARD

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        vectors = np.zeros((len(pixels), CARD.dim), np.float32)
        vectors[:, :3] = pixels.mean(axis=(1, 2)) + 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
