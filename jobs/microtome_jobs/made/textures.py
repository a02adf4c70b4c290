"""Six tissues, each as the amounts of haematoxylin and eosin over a rectangle.

Lengths are pixels at 0.5 µm. Amounts are optical densities, so that layers simply add; nuclei
push eosin aside. One function per tissue, all alike: a generator and a shape in, `Stained` out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome_jobs.made.noise import Plane, Shape, fractal_noise, scattered, smooth_noise
from microtome_jobs.made.nuclei import Nuclei, NucleusKind
from microtome_jobs.made.stains import AMOUNT_PER_OD

SPINDLE = NucleusKind((3.6, 4.6), aspect=4.0, irregular=0.04, depth=(0.6, 0.9))
LYMPHOCYTE = NucleusKind((5.6, 7.0), aspect=1.1, irregular=0.03, depth=(0.85, 1.15))
CENTROBLAST = NucleusKind((8.0, 10.0), aspect=1.15, depth=(0.45, 0.65), rim=0.45, nucleoli=2)
COLUMNAR = NucleusKind((5.4, 6.6), aspect=1.8, irregular=0.04, depth=(0.6, 0.9), rim=0.3)
TUMOUR = NucleusKind(
    (9.0, 15.0), 1.3, irregular=0.05, depth=(0.5, 0.95), rim=0.5, clumps=0.22, nucleoli=3
)
AFLOAT = NucleusKind((5.0, 7.5), aspect=1.3, irregular=0.06, depth=(0.6, 0.9), rim=0.3)
PYKNOTIC = NucleusKind((2.5, 5.0), aspect=1.3, irregular=0.15, depth=(0.9, 1.3), clumps=0.0)

_Amounts = NDArray[np.floating[Any]]


class Stained(NamedTuple):
    """Two planes of stain, (H, W) uint8 each, `AMOUNT_PER_OD` per unit of optical density."""

    haematoxylin: NDArray[np.uint8]
    eosin: NDArray[np.uint8]


def lymphoid(rng: np.random.Generator, shape: Shape) -> Stained:
    """Sheets of small, round, dark nuclei almost touching, with paler follicle centres."""
    nuclei = np.zeros(shape, np.float32)
    follicles = smooth_noise(rng, shape, 420, 420)
    places = scattered(rng, shape, 15.0, jitter=0.3)
    crowded = follicles[tuple(places.T)] < 0.35
    sparse = places[~crowded]
    Nuclei(rng, CENTROBLAST).strew(rng, nuclei, sparse[rng.random(len(sparse)) < 0.45])
    Nuclei(rng, LYMPHOCYTE).strew(rng, nuclei, places[crowded & (rng.random(len(places)) < 0.94)])
    ground = fractal_noise(rng, shape, 48)
    return _stained(0.12 + 0.05 * ground, nuclei, 0.13 + 0.07 * ground)


def gland(rng: np.random.Generator, shape: Shape) -> Stained:
    """Rings of columnar cells around open lumens, their nuclei at the outer side, in stroma."""
    eosin, along = _fibres(rng, shape)
    haematoxylin = np.full(shape, 0.05, np.float32)
    nuclei = _spindles(rng, shape, along, spacing_px=46)
    tissue = np.zeros(shape, np.uint8)
    columnar = Nuclei(rng, COLUMNAR)
    for row, column in scattered(rng, shape, 205, jitter=0.12).tolist():
        outline = _Outline.random(rng, row, column, radius_px=rng.uniform(70, 92))
        cv2.fillPoly(nuclei, [outline.points(1.0)], 0.0)
        cv2.fillPoly(tissue, [outline.points(1.0)], 128)
        cv2.fillPoly(tissue, [outline.points(rng.uniform(0.25, 0.6))], 255)
        columnar.stamp(nuclei, *outline.ring(rng, 0.87, every_px=11.5))
    cytoplasm = cv2.blur(tissue, (3, 3))
    ground = fractal_noise(rng, shape, 24, octaves=2)
    epithelium, lumen = cytoplasm > 64, cytoplasm > 190
    eosin[epithelium] = (0.22 + 0.06 * ground)[epithelium]
    haematoxylin[epithelium] = 0.16
    eosin[lumen], haematoxylin[lumen] = 0.015, 0.01
    return _stained(haematoxylin, nuclei, eosin)


def stroma(rng: np.random.Generator, shape: Shape) -> Stained:
    """Wavy pink fibres with clefts between the bundles and few, thin nuclei along them."""
    eosin, along = _fibres(rng, shape)
    nuclei = _spindles(rng, shape, along, spacing_px=58)
    return _stained(0.03 + 0.06 * eosin, nuclei, eosin)


def adipose(rng: np.random.Generator, shape: Shape) -> Stained:
    """Large empty cells with thin pink walls and, here and there, a flat nucleus in a wall."""
    walls = _honeycomb(rng, shape, spacing_px=84)
    nuclei = np.zeros(shape, np.float32)
    places = scattered(rng, shape, 26.0)
    Nuclei(rng, PYKNOTIC).strew(rng, nuclei, places[walls[tuple(places.T)] > 0.7])
    ground = fractal_noise(rng, shape, 64)
    return _stained(0.02 + 0.08 * walls, nuclei, 0.02 + walls * (0.3 + 0.08 * ground))


def tumour(rng: np.random.Generator, shape: Shape) -> Stained:
    """Nests of large, uneven, vesicular nuclei in purple cytoplasm, with thin septa between."""
    fibres, along = _fibres(rng, shape)
    septa = np.clip(2.4 - 26 * np.abs(fractal_noise(rng, shape, 340)), 0, 1)
    nuclei = _spindles(rng, shape, along, spacing_px=34) * (septa > 0.5)
    places = scattered(rng, shape, 26.0, jitter=0.32)
    nested = (septa[tuple(places.T)] < 0.1) & (rng.random(len(places)) < 0.95)
    Nuclei(rng, TUMOUR).strew(rng, nuclei, places[nested])
    mitoses = nested & (rng.random(len(places)) < 0.02)
    Nuclei(rng, PYKNOTIC).strew(rng, nuclei, places[mitoses])
    ground = fractal_noise(rng, shape, 40)
    haematoxylin = (0.24 + 0.07 * ground) * (1 - septa) + 0.05 * septa
    return _stained(haematoxylin, nuclei, (0.2 + 0.06 * ground) * (1 - septa) + fibres * septa)


def mucin(rng: np.random.Generator, shape: Shape) -> Stained:
    """Pale blue pools with wisps, and small clumps of cells afloat in them."""
    pools = fractal_noise(rng, shape, 260)
    strands, _ = _fibres(rng, shape)
    nuclei, bodies = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    clumps = scattered(rng, shape, 230, jitter=0.4)
    cells = np.repeat(clumps, rng.integers(4, 12, len(clumps)), axis=0)
    cells = cells + np.rint(rng.normal(0, 17, cells.shape)).astype(np.int64)
    for row, column in cells.tolist():
        cv2.circle(bodies, (column, row), 14, 0.26, thickness=-1)
    Nuclei(rng, AFLOAT).strew(rng, nuclei, cells)
    haematoxylin = 0.06 + 0.05 * pools + 0.4 * strands
    return _stained(haematoxylin, nuclei, np.maximum(0.08 * strands, bodies))


TISSUES: Mapping[str, Callable[[np.random.Generator, Shape], Stained]] = {
    "lymphoid": lymphoid,
    "gland": gland,
    "stroma": stroma,
    "adipose": adipose,
    "tumour": tumour,
    "mucin": mucin,
}


def _stained(haematoxylin: _Amounts, nuclei: Plane, eosin: _Amounts) -> Stained:
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


def _fibres(rng: np.random.Generator, shape: Shape) -> tuple[Plane, Plane]:
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


def _spindles(
    rng: np.random.Generator, shape: Shape, direction: Plane, *, spacing_px: float
) -> Plane:
    """Thin nuclei along the fibres, as haematoxylin."""
    nuclei = np.zeros(shape, np.float32)
    places = scattered(rng, shape, spacing_px, jitter=0.5)
    angles = direction[tuple(places.T // 8)] + rng.normal(0, 0.12, len(places))
    Nuclei(rng, SPINDLE).stamp(nuclei, places, angles)
    return nuclei


def _honeycomb(rng: np.random.Generator, shape: Shape, *, spacing_px: float) -> Plane:
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


class _Outline(NamedTuple):
    """A closed, gently uneven curve around a centre."""

    centre: NDArray[np.float64]
    angles: NDArray[np.float64]
    radii_px: NDArray[np.float64]

    @classmethod
    def random(
        cls, rng: np.random.Generator, row: int, column: int, *, radius_px: float
    ) -> _Outline:
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
