"""What of an image a model is shown: squares that cover it, at the model's own resolution.

A model is made for squares of `input_px` and mostly for one µm per pixel; published images are of
any size and shape. Nothing is squashed, and nothing but what lies beyond `MOST_A_SIDE` squares is
left unseen:

- where the µm per pixel of both are known, a square covers what the model's input covers at its
  resolution; else, or where the image is smaller than that, it is as large as the image allows;
- the fewest squares that cover the image are laid evenly over it, at most `MOST_A_SIDE` a side;
- the image's vector is the mean of theirs, each of unit length, set to unit length again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from microtome.models.card import ModelCard
from microtome.search.picture import resized
from microtome.slides.slide import Pixels

MOST_A_SIDE: Final = 5
VERSION: Final = 1
"""Changes whenever the same image would be shown otherwise: kept vectors are of one version."""


@dataclass(frozen=True, slots=True)
class View:
    """How the images of a set are shown to a model.

    Attributes:
        input_px: side of the model's input.
        side_px: what a square covers, in the images' pixels; None for as much as they allow.
    """

    input_px: int
    side_px: int | None = None

    @classmethod
    def of(cls, card: ModelCard, image_mpp: float | None) -> View:
        """How a model sees images of so many µm per pixel; None where nobody says."""
        input_px = card.preprocessing.input_px
        if card.mpp is None or image_mpp is None:
            return cls(input_px)
        return cls(input_px, max(1, round(input_px * card.mpp / image_mpp)))

    def squares(self, pixels: Pixels) -> Pixels:
        """Squares of an image, (S, input_px, input_px, 3) uint8, row by row."""
        height, width = pixels.shape[:2]
        side = min(height, width, self.side_px or height)
        return np.stack(
            [
                resized(pixels[y : y + side, x : x + side], self.input_px, self.input_px)
                for y in _starts(height, side)
                for x in _starts(width, side)
            ]
        )

    def __str__(self) -> str:
        covered = f"{self.side_px:,} px of the image" if self.side_px else "its shorter side"
        return (
            f"squares of {covered}, resampled to {self.input_px} px, that cover an image, at most "
            f"{MOST_A_SIDE} a side; the mean of their vectors"
        )


def _starts(length: int, side: int) -> list[int]:
    """Where squares begin along one side: evenly from one end to the other."""
    count = min(math.ceil(length / side), MOST_A_SIDE)
    return [round(start) for start in np.linspace(0, length - side, count).tolist()]
