"""Random kinds of tissue: what a model can learn to tell apart before it has seen a patient.

A kind is a set of numbers drawn once: which nuclei it has and how they lie, what the ground
between them is like, and what it is built into (glands, nests, fat, …). Each field painted of it
shares these and nothing else: where things lie is drawn anew, and so is the stain.

Lengths are pixels at 0.5 µm, amounts of stain are optical densities, as in `textures`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome_jobs.made.noise import Plane, Shape, fractal_noise, scattered, smooth_noise
from microtome_jobs.made.nuclei import Nuclei, NucleusKind
from microtome_jobs.made.stains import StainStyle
from microtome_jobs.made.structures import Outline, Stained, fibres, honeycomb, stained

Ground = Literal["fibres", "cloud", "even"]
Structure = Literal["none", "glands", "holes", "alveoli", "nests", "honeycomb"]
PLAIN_SHARE = 0.3  # of kinds that are built into nothing
HELD_SHARE = 0.93  # of a lattice's places that hold a nucleus


@dataclass(frozen=True, slots=True)
class Population:
    """Nuclei of one sort, and how they lie.

    Attributes:
        nuclei: what they look like.
        spacing_px: between neighbours.
        jitter: how far they leave their lattice, a fraction of the spacing.
        gathered: 0 everywhere alike; towards 1 only in ever fewer crowds.
        crowd_px: size of a crowd.
        along: whether they lie along the fibres.
    """

    nuclei: NucleusKind
    spacing_px: float
    jitter: float
    gathered: float
    crowd_px: float
    along: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """One made tissue.

    Attributes:
        ground: what lies between the nuclei.
        structure: what it is built into.
        populations: its nuclei; the first lines its glands.
        eosin: of the ground, and by how much that varies.
        haematoxylin: the same.
        grain_px: size of the ground's patches.
        size_px: radius of what it is built into, about.
        lumen: least and greatest share of a gland or hole that is empty.
        wall: eosin of walls.
        empty: eosin of what is empty.
    """

    ground: Ground
    structure: Structure
    populations: tuple[Population, ...]
    eosin: tuple[float, float]
    haematoxylin: tuple[float, float]
    grain_px: float
    size_px: float
    lumen: tuple[float, float]
    wall: float
    empty: float


def random_kind(rng: np.random.Generator) -> Kind:
    """Draw a kind."""
    grounds, structures = get_args(Ground), get_args(Structure)
    plain = rng.random() < PLAIN_SHARE
    return Kind(
        ground=grounds[rng.integers(len(grounds))],
        structure="none" if plain else structures[rng.integers(1, len(structures))],
        populations=tuple(_random_population(rng) for _ in range(rng.integers(1, 4))),
        eosin=(rng.uniform(0.05, 0.4), rng.uniform(0.02, 0.15)),
        haematoxylin=(rng.uniform(0.02, 0.25), rng.uniform(0.01, 0.08)),
        grain_px=_between(rng, 10, 120),
        size_px=_between(rng, 40, 200),
        lumen=(rng.uniform(0.15, 0.4), rng.uniform(0.4, 0.85)),
        wall=rng.uniform(0.15, 0.6),
        empty=rng.uniform(0, 0.06),
    )


def random_style(rng: np.random.Generator) -> StainStyle:
    """Draw a laboratory's stain and a scanner."""
    red, green, blue = rng.uniform(232, 250, 3).tolist()
    return StainStyle(
        haematoxylin=math.exp(rng.normal(0, 0.18)),
        eosin=math.exp(rng.normal(0, 0.2)),
        hue=rng.normal(0, 0.04),
        glass=(red, green, blue),
        grain=rng.uniform(1, 4),
    )


def paint(rng: np.random.Generator, kind: Kind, shape: Shape) -> Stained:
    """Paint a field of a kind; no two are alike but for the kind.

    Args:
        rng: source of all that differs.
        kind: what they share.
        shape: height and width, px.
    """
    field = _ground(rng, kind, shape)
    nests = _nests(rng, kind, field) if kind.structure == "nests" else None
    for population in kind.populations:
        _strew(rng, population, field, None if population.along else nests)
    if kind.structure in ROUND:
        ROUND[kind.structure](rng, kind, field)
    elif kind.structure == "honeycomb":
        _fat(rng, kind, field)
    return stained(field.haematoxylin, field.nuclei, field.eosin)


@dataclass(slots=True)
class _Field:
    """Planes under work, (H, W) each but `along`, which is an eighth as large."""

    eosin: Plane
    haematoxylin: Plane
    nuclei: Plane
    threads: Plane
    along: Plane

    @property
    def shape(self) -> Shape:
        """Height and width, px."""
        return self.nuclei.shape[0], self.nuclei.shape[1]

    def fill(self, curve: NDArray[np.int32], eosin: float, haematoxylin: float) -> None:
        """Lay even stain within a closed curve."""
        cv2.fillPoly(self.eosin, [curve], eosin)
        cv2.fillPoly(self.haematoxylin, [curve], haematoxylin)


def _random_population(rng: np.random.Generator) -> Population:
    radius = _between(rng, 3, 11)
    least_depth = rng.uniform(0.4, 0.9)
    nuclei = NucleusKind(
        (radius * rng.uniform(0.7, 0.95), radius * rng.uniform(1.05, 1.4)),
        aspect=1 + rng.exponential(0.8),
        irregular=rng.uniform(0.02, 0.13),
        depth=(least_depth, least_depth + rng.uniform(0.1, 0.35)),
        rim=rng.uniform(0, 0.6),
        clumps=rng.uniform(0, 0.3),
        nucleoli=int(rng.integers(0, 4)),
    )
    return Population(
        nuclei,
        spacing_px=max(1.7 * radius, _between(rng, 10, 70)),
        jitter=rng.uniform(0.1, 0.5),
        gathered=rng.uniform(0, 1) if rng.random() < 0.5 else 0.0,
        crowd_px=rng.uniform(60, 300),
        along=rng.random() < 0.35,
    )


def _ground(rng: np.random.Generator, kind: Kind, shape: Shape) -> _Field:
    threads, along = fibres(rng, shape)
    base, varied = kind.eosin
    noise = fractal_noise(rng, shape, kind.grain_px)
    eosin = {
        "fibres": threads * (base / 0.3),
        "cloud": base + varied * noise,
        "even": base + 0.02 * noise,
    }[kind.ground]
    base, varied = kind.haematoxylin
    haematoxylin = base + varied * fractal_noise(rng, shape, kind.grain_px)
    nuclei = np.zeros(shape, np.float32)
    return _Field(eosin.astype(np.float32), haematoxylin.astype(np.float32), nuclei, threads, along)


def _strew(
    rng: np.random.Generator, population: Population, field: _Field, allowed: Plane | None
) -> None:
    """Lay a population's nuclei where `allowed` is above 0, or everywhere."""
    shape = field.shape
    places = scattered(rng, shape, population.spacing_px, population.jitter)
    held = rng.random(len(places)) < HELD_SHARE
    if population.gathered:
        crowds = smooth_noise(rng, shape, population.crowd_px, population.crowd_px)
        held &= crowds[tuple(places.T)] > population.gathered - 0.6
    if allowed is not None:
        held &= allowed[tuple(places.T)] > 0
    places, nuclei = places[held], Nuclei(rng, population.nuclei)
    if population.along:
        angles = field.along[tuple(places.T // 8)] + rng.normal(0, 0.15, len(places))
        nuclei.stamp(field.nuclei, places, angles)
    else:
        nuclei.strew(rng, field.nuclei, places)


def _nests(rng: np.random.Generator, kind: Kind, field: _Field) -> Plane:
    """Part the field by septa of fibres; returns where the nests are."""
    shape = field.shape
    septa = np.clip(2.4 - 26 * np.abs(fractal_noise(rng, shape, 2 * kind.size_px)), 0, 1)
    field.eosin += septa * (field.threads - field.eosin)
    field.haematoxylin += septa * (0.04 - field.haematoxylin)
    return (septa < 0.2).astype(np.float32)


def _glands(rng: np.random.Generator, kind: Kind, field: _Field) -> None:
    """Rounds of cells in a ring about an empty middle."""
    lining = kind.populations[0].nuclei
    columnar = Nuclei(rng, lining)
    every_px = max(8.0, 2 * lining.radius_px[1])
    for outline in _outlines(rng, kind, field):
        whole, inside = outline.points(1.0), outline.points(rng.uniform(*kind.lumen))
        cv2.fillPoly(field.nuclei, [whole], 0.0)
        field.fill(whole, 0.6 * kind.wall, 0.1 + kind.haematoxylin[0] / 2)
        field.fill(inside, kind.empty, 0.01)
        columnar.stamp(field.nuclei, *outline.ring(rng, 0.87, every_px=every_px))


def _holes(rng: np.random.Generator, kind: Kind, field: _Field) -> None:
    """Empty rounds of any size."""
    for outline in _outlines(rng, kind, field):
        _clear(kind, field, outline.points(rng.uniform(*kind.lumen)))


def _alveoli(rng: np.random.Generator, kind: Kind, field: _Field) -> None:
    """Empty rounds so large that little more than walls is left."""
    for outline in _outlines(rng, kind, field, wider=1.3):
        _clear(kind, field, outline.points(0.9))


def _fat(rng: np.random.Generator, kind: Kind, field: _Field) -> None:
    """Empty cells; nuclei only in their walls."""
    shape = field.shape
    walls = honeycomb(rng, shape, spacing_px=max(30.0, 0.7 * kind.size_px))
    field.eosin = kind.empty + kind.wall * walls
    field.haematoxylin = 0.02 + 0.08 * walls
    field.nuclei *= walls > 0.5


ROUND: Mapping[str, Callable[[np.random.Generator, Kind, _Field], None]] = {
    "glands": _glands,
    "holes": _holes,
    "alveoli": _alveoli,
}


def _outlines(
    rng: np.random.Generator, kind: Kind, field: _Field, wider: float = 1.0
) -> list[Outline]:
    """Rounds of about the kind's size, all over the field."""
    shape = field.shape
    places = scattered(rng, shape, kind.size_px * rng.uniform(1.5, 2.2), jitter=0.25).tolist()
    radii = wider * kind.size_px * rng.uniform(0.4, 0.75, len(places))
    return [
        Outline.random(rng, row, column, radius_px=radius)
        for (row, column), radius in zip(places, radii.tolist(), strict=True)
    ]


def _clear(kind: Kind, field: _Field, curve: NDArray[np.int32]) -> None:
    field.fill(curve, kind.empty, 0.01)
    cv2.fillPoly(field.nuclei, [curve], 0.0)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A length between two, short and long ones equally likely by ratio."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
