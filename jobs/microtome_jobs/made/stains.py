"""From amounts of stain to colours, as light goes through them.

Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution", Anal Quant
Cytol Histol 23 (2001): each stain takes light away in fixed proportions over red, green and blue,
and optical densities add up: I = I₀ · 10^-(h·H + e·E).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
"""Optical density per unit of stain over red, green and blue, unit length (Ruifrok & Johnston)."""

AMOUNT_PER_OD = 160
"""Stain amounts are kept as uint8: 160 is an optical density of 1, 255 the most, 1.6."""

STRIP_PX = 512
"""Rows coloured at a time."""

_NOISE_PX = 1021  # of the sensor-noise field that is laid over strip after strip; prime: no beat


@dataclass(frozen=True, slots=True)
class StainStyle:
    """How one laboratory stains and one scanner sees.

    Attributes:
        haematoxylin: strength; 1 is as the textures are written.
        eosin: strength.
        hue: added to the green share of haematoxylin and the red share of eosin; above 0 the
            nuclei turn bluer and the pink greyer.
        glass: red, green and blue of the empty slide.
        grain: standard deviation of the sensor's noise in grey levels.
    """

    haematoxylin: float = 1.0
    eosin: float = 1.0
    hue: float = 0.0
    glass: tuple[float, float, float] = (244, 242, 245)
    grain: float = 2.0

    def tables(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """What is left of the lamp's light after each amount of haematoxylin, and of eosin.

        Returns:
            Two (3, 256) uint8, by channel and amount: grey levels; shares, 255 for all of it.
        """
        amounts = np.arange(256) / AMOUNT_PER_OD
        red, green, blue = HAEMATOXYLIN
        nuclear = _left((red, green - self.hue, blue), self.haematoxylin * amounts)
        # Eosin as scanners see it is less pure than the published vector: it takes some blue.
        red, green, blue = EOSIN
        plasmic = _left((red + 0.06 + self.hue, green - 0.08, blue + 0.2), self.eosin * amounts)
        lamp = np.array(self.glass)[:, None]
        return np.rint(lamp * nuclear).astype(np.uint8), np.rint(255 * plasmic).astype(np.uint8)


def _left(stain: tuple[float, float, float], amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = np.array(stain) / np.linalg.norm(stain)
    return np.asarray(10.0 ** -np.outer(unit, amounts))


def coloured(
    rng: np.random.Generator,
    haematoxylin: NDArray[np.uint8],
    eosin: NDArray[np.uint8],
    style: StainStyle,
) -> NDArray[np.uint8]:
    """Colour two planes of stain, through a lens that blurs a little and a sensor with noise.

    Args:
        rng: source of the noise.
        haematoxylin: (H, W) uint8, `AMOUNT_PER_OD` per unit of optical density.
        eosin: the same for eosin.
        style: of the laboratory and the scanner.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    height, width = haematoxylin.shape
    picture = np.empty((height, width, 3), dtype=np.uint8)
    nuclear, plasmic = style.tables()
    noise = rng.standard_normal((STRIP_PX, _NOISE_PX), dtype=np.float32) * np.float32(style.grain)
    noise = np.tile(noise, (1, width // _NOISE_PX + 2))
    for top in range(0, height, STRIP_PX):
        rows = slice(top, min(top + STRIP_PX, height))
        strip = picture[rows]
        start = int(rng.integers(0, _NOISE_PX))
        grain = noise[: strip.shape[0], start : start + width]
        channels = []
        for past_nuclei, past_eosin in zip(nuclear, plasmic, strict=True):
            light = cv2.LUT(haematoxylin[rows], past_nuclei)
            share = cv2.LUT(eosin[rows], past_eosin)
            seen = cv2.GaussianBlur(cv2.multiply(light, share, scale=1 / 255), (3, 3), 0.7)
            channels.append(cv2.add(seen, grain, dtype=cv2.CV_8U))
        cv2.merge(channels, strip)
    return picture
