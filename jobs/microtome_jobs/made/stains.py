"""From amounts of stain to colours, as light goes through them.

Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution", Anal Quant
Cytol Histol 23 (2001): each stain takes light away in fixed proportions over red, green and blue,
and optical densities add up: I = I₀ · 10^-(h·H + e·E).
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
    glass: tuple[float, float, float] = field(default=(244.0, 242.0, 245.0))
    grain: float = 2.0

    def colours(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Transmittance of every amount, haematoxylin and eosin, each (3, 256) float32."""
        red, green, blue = HAEMATOXYLIN
        blue_shift = np.array([red, green - self.hue, blue])
        red, green, blue = EOSIN
        grey_shift = np.array([red + 0.06 + self.hue, green - 0.08, blue + 0.2])
        amounts = np.arange(256) / AMOUNT_PER_OD
        return (
            _transmitted(blue_shift, self.haematoxylin * amounts),
            _transmitted(grey_shift, self.eosin * amounts),
        )


def _transmitted(stain: NDArray[np.float64], amounts: NDArray[np.float64]) -> NDArray[np.float32]:
    unit = stain / np.linalg.norm(stain)
    return (10.0 ** -np.outer(unit, amounts)).astype(np.float32)


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
    nuclear, plasmic = style.colours()
    noise = rng.standard_normal((STRIP_PX, _NOISE_PX), dtype=np.float32) * np.float32(style.grain)
    noise = np.tile(noise, (1, width // _NOISE_PX + 2))
    for top in range(0, height, STRIP_PX):
        rows = slice(top, min(top + STRIP_PX, height))
        strip = picture[rows]
        start = int(rng.integers(0, _NOISE_PX))
        grain = noise[: strip.shape[0], start : start + width]
        channels = []
        for channel, glass in enumerate(style.glass):
            after_nuclei = cv2.LUT(haematoxylin[rows], glass * nuclear[channel])
            light = cv2.multiply(after_nuclei, cv2.LUT(eosin[rows], plasmic[channel]))
            seen = cv2.GaussianBlur(light, (3, 3), 0.7)
            channels.append(cv2.add(seen, grain, dtype=cv2.CV_8U))
        cv2.merge(channels, strip)
    return picture
