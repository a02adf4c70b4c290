"""Six tissues, each as the amounts of haematoxylin and eosin over a rectangle.

Lengths are pixels at 0.5 µm. Amounts are optical densities, so that layers simply add; nuclei
push eosin aside. One function per tissue, all alike: a generator and a shape in, `Stained` out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from microtome_jobs.made.noise import Shape, fractal_noise, scattered, smooth_noise
from microtome_jobs.made.nuclei import Nuclei, NucleusKind
from microtome_jobs.made.structures import Outline, Stained, fibres, honeycomb, spindles, stained

LYMPHOCYTE = NucleusKind((5.6, 7.0), aspect=1.1, irregular=0.03, depth=(0.85, 1.15))
CENTROBLAST = NucleusKind((8.0, 10.0), aspect=1.15, depth=(0.45, 0.65), rim=0.45, nucleoli=2)
COLUMNAR = NucleusKind((5.4, 6.6), aspect=1.8, irregular=0.04, depth=(0.6, 0.9), rim=0.3)
TUMOUR = NucleusKind(
    (9.0, 15.0), 1.3, irregular=0.05, depth=(0.5, 0.95), rim=0.5, clumps=0.22, nucleoli=3
)
AFLOAT = NucleusKind((5.0, 7.5), aspect=1.3, irregular=0.06, depth=(0.6, 0.9), rim=0.3)
PYKNOTIC = NucleusKind((2.5, 5.0), aspect=1.3, irregular=0.15, depth=(0.9, 1.3), clumps=0.0)


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
    return stained(0.12 + 0.05 * ground, nuclei, 0.13 + 0.07 * ground)


def gland(rng: np.random.Generator, shape: Shape) -> Stained:
    """Rings of columnar cells around open lumens, their nuclei at the outer side, in stroma."""
    eosin, along = fibres(rng, shape)
    haematoxylin = np.full(shape, 0.05, np.float32)
    nuclei = spindles(rng, shape, along, spacing_px=46)
    tissue = np.zeros(shape, np.uint8)
    columnar = Nuclei(rng, COLUMNAR)
    for row, column in scattered(rng, shape, 205, jitter=0.12).tolist():
        outline = Outline.random(rng, row, column, radius_px=rng.uniform(70, 92))
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
    return stained(haematoxylin, nuclei, eosin)


def stroma(rng: np.random.Generator, shape: Shape) -> Stained:
    """Wavy pink fibres with clefts between the bundles and few, thin nuclei along them."""
    eosin, along = fibres(rng, shape)
    nuclei = spindles(rng, shape, along, spacing_px=58)
    return stained(0.03 + 0.06 * eosin, nuclei, eosin)


def adipose(rng: np.random.Generator, shape: Shape) -> Stained:
    """Large empty cells with thin pink walls and, here and there, a flat nucleus in a wall."""
    walls = honeycomb(rng, shape, spacing_px=84)
    nuclei = np.zeros(shape, np.float32)
    places = scattered(rng, shape, 26.0)
    Nuclei(rng, PYKNOTIC).strew(rng, nuclei, places[walls[tuple(places.T)] > 0.7])
    ground = fractal_noise(rng, shape, 64)
    return stained(0.02 + 0.08 * walls, nuclei, 0.02 + walls * (0.3 + 0.08 * ground))


def tumour(rng: np.random.Generator, shape: Shape) -> Stained:
    """Nests of large, uneven, vesicular nuclei in purple cytoplasm, with thin septa between."""
    threads, along = fibres(rng, shape)
    septa = np.clip(2.4 - 26 * np.abs(fractal_noise(rng, shape, 340)), 0, 1)
    nuclei = spindles(rng, shape, along, spacing_px=34) * (septa > 0.5)
    places = scattered(rng, shape, 26.0, jitter=0.32)
    nested = (septa[tuple(places.T)] < 0.1) & (rng.random(len(places)) < 0.95)
    Nuclei(rng, TUMOUR).strew(rng, nuclei, places[nested])
    mitoses = nested & (rng.random(len(places)) < 0.02)
    Nuclei(rng, PYKNOTIC).strew(rng, nuclei, places[mitoses])
    ground = fractal_noise(rng, shape, 40)
    haematoxylin = (0.24 + 0.07 * ground) * (1 - septa) + 0.05 * septa
    return stained(haematoxylin, nuclei, (0.2 + 0.06 * ground) * (1 - septa) + threads * septa)


def mucin(rng: np.random.Generator, shape: Shape) -> Stained:
    """Pale blue pools with wisps, and small clumps of cells afloat in them."""
    pools = fractal_noise(rng, shape, 260)
    strands, _ = fibres(rng, shape)
    nuclei, bodies = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    clumps = scattered(rng, shape, 230, jitter=0.4)
    cells = np.repeat(clumps, rng.integers(4, 12, len(clumps)), axis=0)
    cells = cells + np.rint(rng.normal(0, 17, cells.shape)).astype(np.int64)
    for row, column in cells.tolist():
        cv2.circle(bodies, (column, row), 14, 0.26, thickness=-1)
    Nuclei(rng, AFLOAT).strew(rng, nuclei, cells)
    haematoxylin = 0.06 + 0.05 * pools + 0.4 * strands
    return stained(haematoxylin, nuclei, np.maximum(0.08 * strands, bodies))


TISSUES: Mapping[str, Callable[[np.random.Generator, Shape], Stained]] = {
    "lymphoid": lymphoid,
    "gland": gland,
    "stroma": stroma,
    "adipose": adipose,
    "tumour": tumour,
    "mucin": mucin,
}
