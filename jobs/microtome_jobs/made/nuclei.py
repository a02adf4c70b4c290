"""Nuclei: a few dozen drawn once per tissue, then stamped in their thousands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome_jobs.made.noise import Plane

SPRITES = 32
"""Shapes drawn per kind; sprite i lies at the angle π·i / SPRITES."""


@dataclass(frozen=True, slots=True)
class NucleusKind:
    """What the nuclei of one tissue have in common.

    Attributes:
        radius_px: least and greatest mean radius.
        aspect: length over width.
        irregular: how far the outline leaves the ellipse, as a fraction of the radius.
        depth: haematoxylin, optical density: least and greatest.
        rim: how much darker the membrane is than the inside: 0 a dark blob, 1 a pale vesicle.
        clumps: strength of the chromatin's texture.
        nucleoli: largest number of dark dots inside.
    """

    radius_px: tuple[float, float]
    aspect: float = 1.2
    irregular: float = 0.05
    depth: tuple[float, float] = (0.8, 1.1)
    rim: float = 0.2
    clumps: float = 0.25
    nucleoli: int = 0


class Nuclei:
    """Drawn nuclei of one kind.

    Args:
        rng: source of the shapes.
        kind: what they look like.
    """

    def __init__(self, rng: np.random.Generator, kind: NucleusKind) -> None:
        self._margin_px = math.ceil(kind.radius_px[1] * kind.aspect * 1.3) + 2
        self._sprites = [
            _drawn(rng, kind, angle=math.pi * turn / SPRITES, half_px=self._margin_px)
            for turn in range(SPRITES)
        ]

    def stamp(self, plane: Plane, places: NDArray[np.int64], angles: NDArray[np.float64]) -> None:
        """Draw a nucleus at each place; where two meet, the darker one shows.

        Args:
            plane: (H, W) float32 haematoxylin as optical density, changed in place.
            places: (N, 2) row and column; those too near the edge to fit are left out.
            angles: (N,) direction of the long axis, radians from the x axis to the y axis.
        """
        half = self._margin_px
        fits = ((places >= half) & (places < np.array(plane.shape) - half)).all(axis=1)
        which = np.rint(angles / math.pi * SPRITES).astype(np.int64) % SPRITES
        corners = (places[fits] - half).tolist()
        side = 2 * half + 1
        for (top, left), sprite in zip(corners, which[fits].tolist(), strict=True):
            window = plane[top : top + side, left : left + side]
            np.maximum(window, self._sprites[sprite], out=window)

    def strew(self, rng: np.random.Generator, plane: Plane, places: NDArray[np.int64]) -> None:
        """Stamp at each place, turned at random."""
        self.stamp(plane, places, rng.uniform(0, math.pi, len(places)))


def _drawn(rng: np.random.Generator, kind: NucleusKind, *, angle: float, half_px: int) -> Plane:
    """One nucleus as optical density, (2·half + 1)² float32."""
    y, x = np.mgrid[-half_px : half_px + 1, -half_px : half_px + 1].astype(np.float64)
    radius = rng.uniform(*kind.radius_px)
    along = (x * math.cos(angle) + y * math.sin(angle)) / math.sqrt(kind.aspect)
    beside = (y * math.cos(angle) - x * math.sin(angle)) * math.sqrt(kind.aspect)
    theta = np.arctan2(beside, along)
    outline = np.ones_like(x)
    for waves in (2, 3, 5):
        phase, height = rng.uniform(0, 2 * math.pi), rng.normal(0, kind.irregular)
        outline += height * np.cos(waves * theta + phase)
    distance_px = np.hypot(along, beside) / outline
    inside = np.clip(radius - distance_px + 0.5, 0, 1)  # the outline, antialiased
    depth = 1 - kind.rim * np.clip(1 - (distance_px / radius) ** 3, 0, 1)
    depth += kind.clumps * _chromatin(rng, x, y)
    for _ in range(rng.integers(0, kind.nucleoli + 1)):
        row, column = rng.normal(0, radius / 3, 2)
        depth = np.maximum(depth, 1.25 - np.hypot(y - row, x - column) / 4)
    amount = inside * rng.uniform(*kind.depth) * np.clip(depth, 0.2, 1.4)
    return np.asarray(amount, dtype=np.float32)


def _chromatin(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A few plane waves of 4 to 14 px added up: clumps without a lattice."""
    turn, phase = rng.uniform(0, 2 * math.pi, (2, 6, 1, 1))
    length_px = rng.uniform(4, 14, (6, 1, 1))
    along = x * np.cos(turn) + y * np.sin(turn)
    return np.asarray(np.cos(2 * math.pi / length_px * along + phase).mean(axis=0) * 1.5)
