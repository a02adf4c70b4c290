"""What made tissue is built of: fibres, walls, outlines, and nuclei laid over a ground.

Lengths are pixels at 0.5 µm, amounts of stain are optical densities.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome_jobs.made.noise import Plane, Shape, scattered, smooth_noise
from microtome_jobs.made.nuclei import Nuclei, NucleusKind
from microtome_jobs.made.stains import AMOUNT_PER_OD

SPINDLE = NucleusKind((3.6, 4.6), aspect=4.0, irregular=0.04, depth=(0.6, 0.9))

_Amounts = NDArray[np.floating[Any]]


class Stained(NamedTuple):
    """Two planes of stain, (H, W) uint8 each, `AMOUNT_PER_OD` per unit of optical density."""

    haematoxylin: NDArray[np.uint8]
    eosin: NDArray[np.uint8]


def stained(haematoxylin: _Amounts, nuclei: Plane, eosin: _Amounts) -> Stained:
    """Lay nuclei over the ground: they hide its haematoxylin and push some eosin aside."""
    return Stained(
        _counted(np.maximum(haematoxylin, nuclei), 1.0, nuclei, 0.0),
        _counted(eosin, 1.0, nuclei, -0.15),
    )


def _counted(one: _Amounts, share: float, other: _Amounts, rest: float) -> NDArray[np.uint8]:
    """`share · one + rest · other` in uint8 amounts, held within 0 to 255, in one pass."""
    weights = AMOUNT_PER_OD * share, AMOUNT_PER_OD * rest
    mixed = cv2.addWeighted(one, weights[0], other, weights[1], 0, dtype=cv2.CV_8U)
    return np.asarray(mixed, dtype=np.uint8)


def fibres(rng: np.random.Generator, shape: Shape) -> tuple[Plane, Plane]:
    """Eosin of wavy fibres, and the direction they run in, at an eighth of the resolution.

    Streaks are drawn straight, then looked up along bent coordinates. The bend is slow, so it is
    worked out at an eighth of the resolution; where it leads off the streaks, they are mirrored,
    which shows no seam.
    """
    eighth = shape[0] // 8 + 2, shape[1] // 8 + 2
    y, x = (8 * np.indices(eighth)).astype(np.float32)
    turn = rng.uniform(0, math.pi)
    bend = 90 * smooth_noise(rng, eighth, 48, 48) + 22 * smooth_noise(rng, eighth, 14, 14)
    beside = x * math.sin(turn) + y * math.cos(turn) + bend
    along = x * math.cos(turn) - y * math.sin(turn) + bend[::-1, ::-1]
    slope_y, slope_x = np.gradient(beside)
    direction = np.arctan2(-slope_x, slope_y)

    straight = (1024, 1024)
    fine = smooth_noise(rng, straight, 2.5, 70)
    bundles = smooth_noise(rng, straight, 13, 190)
    clefts = np.clip(6 * (smooth_noise(rng, straight, 9, 120) - 0.55), 0, 1)
    streaks = np.clip(0.3 + 0.09 * fine + 0.11 * bundles, 0.05, 1) * (1 - 0.85 * clefts)
    size = eighth[1] * 8, eighth[0] * 8
    x, y = (cv2.resize(plane, size)[: shape[0], : shape[1]] for plane in (along, beside))
    bent = cv2.remap(streaks, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(bent, np.float32), direction


def spindles(
    rng: np.random.Generator, shape: Shape, direction: Plane, *, spacing_px: float
) -> Plane:
    """Thin nuclei along the fibres, as haematoxylin."""
    nuclei = np.zeros(shape, np.float32)
    places = scattered(rng, shape, spacing_px, jitter=0.5)
    angles = direction[tuple(places.T // 8)] + rng.normal(0, 0.12, len(places))
    Nuclei(rng, SPINDLE).stamp(nuclei, places, angles)
    return nuclei


def honeycomb(rng: np.random.Generator, shape: Shape, *, spacing_px: float) -> Plane:
    """Walls between rounded cells, 0 to 1: the Voronoi edges of scattered seeds, at half size."""
    half = shape[0] // 2 + 1, shape[1] // 2 + 1
    away = np.ones(half, np.uint8)
    away[tuple(scattered(rng, half, spacing_px / 2, jitter=0.33).T)] = 0
    _, cells = cv2.distanceTransformWithLabels(
        away, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    edges = np.zeros(half, np.float32)
    edges[:, 1:] = cells[:, 1:] != cells[:, :-1]
    edges[1:] = np.maximum(edges[1:], cells[1:] != cells[:-1])
    soft = cv2.GaussianBlur(edges, (0, 0), 2.2)  # meeting walls add up, which rounds the corners
    walls = np.clip(9 * (soft - 0.1), 0, 1)
    return np.asarray(
        cv2.resize(walls, (half[1] * 2, half[0] * 2))[: shape[0], : shape[1]], np.float32
    )


class Outline(NamedTuple):
    """A closed, gently uneven curve around a centre."""

    centre: NDArray[np.float64]
    angles: NDArray[np.float64]
    radii_px: NDArray[np.float64]

    @classmethod
    def random(
        cls, rng: np.random.Generator, row: int, column: int, *, radius_px: float
    ) -> Outline:
        """Draw one about a centre, its mean radius given."""
        angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
        radii = np.full(72, radius_px)
        for waves in (2, 3, 4):
            height, phase = rng.uniform(0, 0.09), rng.uniform(0, 2 * math.pi)
            radii += radius_px * height * np.cos(waves * angles + phase)
        return cls(np.array([column, row], np.float64), angles, radii)

    def points(self, share: float) -> NDArray[np.int32]:
        """The curve drawn in to a share of its radius, (72, 2) x and y."""
        rays = np.stack([np.cos(self.angles), np.sin(self.angles)], axis=1)
        curve = np.asarray(self.centre + share * self.radii_px[:, None] * rays)
        return curve.round().astype(np.int32)

    def ring(
        self, rng: np.random.Generator, share: float, *, every_px: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places along the curve drawn in to a share, (N, 2) row and column, and their rays."""
        count = int(2 * math.pi * share * self.radii_px.mean() / every_px)
        angles = np.linspace(0, 2 * math.pi, count, endpoint=False) + rng.normal(0, 0.02, count)
        radii = np.interp(angles, self.angles, self.radii_px, period=2 * math.pi)
        radii *= share * rng.normal(1, 0.035, count)
        x, y = np.cos(angles) * radii, np.sin(angles) * radii
        return np.rint(self.centre[::-1] + np.stack([y, x], axis=1)).astype(np.int64), angles
