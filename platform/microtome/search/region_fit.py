"""The best placements around a spot, by vectors that are at hand: nothing is embedded.

A placement puts each point of the query near the middle of some stored tile. The cosine of the
two, each pair counting the more the closer point and middle are, tells how well query and slide
agree there:

    agreement = Σ w · cos / Σ w,    w = (1 - |Δx| / h)₊ (1 - |Δy| / h)₊

where a point on which no tile lies has cosine 0. With points a quarter of a tile apart and h a
quarter of a tile, this interpolates the query's vectors linearly. A first round tries every turn
with wide h; further rounds halve the steps and h around the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microtome.search.region_around import Around
from microtome.search.region_bank import STEPS_PER_TILE, Bank
from microtome.search.region_placement import Floats, Placement, turns
from microtome.search.region_votes import ANGLE_STEP_DEG, ANGLES, FLIPS

STARTS: Final = 4
"""Turns that are followed from a spot."""

LEAST_STEP: Final = 1 / 32
"""Of a tile, 7 px of 224: the last round's."""

BATCH: Final = 1 << 20  # pairs at once: 8 MB an array


@dataclass(frozen=True, slots=True)
class Fit:
    """A placement among stored tiles, and how well it agrees with them."""

    placement: Placement
    around: Around
    agreement: float


@dataclass(frozen=True, slots=True)
class _Poses:
    """Many placements: (N, 3) x, y, angle in degrees; (N,) flipped."""

    values: Floats
    flipped: NDArray[np.bool_]

    def take(self, places: NDArray[np.int64]) -> _Poses:
        return _Poses(self.values[places], self.flipped[places])


def fitted(bank: Bank, around: Around, reach_px: float, spread_px: float) -> list[Fit]:
    """The best placements with the query's middle about the middle of a box, best first.

    Args:
        bank: the query.
        around: the stored tiles.
        reach_px: of the query, from its middle to its furthest corner.
        spread_px: how far the middle may be off.
    """
    if not len(around.row_ids):
        return []
    alike = np.einsum("vpd,nd->vpn", bank.vectors, around.vectors)
    step, turn = spread_px / 2, ANGLE_STEP_DEG / 2
    poses = _starts(around, spread_px)
    agreement = _agreement(bank, alike, around, poses, 2 * step)
    poses = poses.take(_best_of_each_turn(agreement, poses, STARTS))
    while True:
        poses = _stepped(poses, step, turn)
        width = max(step, around.tile_px / STEPS_PER_TILE)
        agreement = _agreement(bank, alike, around, poses, width)
        best = agreement.reshape(-1, len(_STEPS)).argmax(axis=1)
        places = np.arange(len(best)) * len(_STEPS) + best
        poses, agreement = poses.take(places), agreement[places]
        if step <= LEAST_STEP * around.tile_px and turn <= _least_turn(around, reach_px):
            break
        step, turn = step / 2, turn / 2
    order = np.argsort(-agreement, kind="stable")
    return [
        Fit(_placement(poses, place), around, float(agreement[place])) for place in order.tolist()
    ]


_STEPS = np.array(list(product((0, -1, 1), repeat=3)), np.float64)


def _least_turn(around: Around, reach_px: float) -> float:
    """Degrees that move a corner of the query by an eighth of a tile."""
    return float(np.degrees(around.tile_px / 8 / max(reach_px, around.tile_px / 2)))


def _starts(around: Around, spread_px: float) -> _Poses:
    steps = np.array(list(product((0, -1, 1), repeat=2))) * spread_px
    middle = np.array([around.box.x, around.box.y])
    places = np.repeat(middle + steps, len(ANGLES), axis=0)
    values = np.column_stack([places, np.tile(ANGLES, len(steps))])
    return _Poses(values, np.tile(FLIPS, len(steps)))


def _best_of_each_turn(agreement: Floats, poses: _Poses, most: int) -> NDArray[np.int64]:
    """The best pose of each turn, of the best turns."""
    turn = np.argsort(-agreement, kind="stable")
    names = np.column_stack([poses.values[turn, 2], poses.flipped[turn]])
    _, first = np.unique(names, axis=0, return_index=True)
    return turn[np.sort(first)[:most]]


def _stepped(poses: _Poses, step_px: float, turn_deg: float) -> _Poses:
    moves = _STEPS * (step_px, step_px, turn_deg)
    values = (poses.values[:, None] + moves).reshape(-1, 3)
    return _Poses(values, np.repeat(poses.flipped, len(moves)))


def _agreement(
    bank: Bank, alike: NDArray[np.float32], around: Around, poses: _Poses, width_px: float
) -> Floats:
    """(N,) agreement of each pose; see the module's docstring."""
    size = max(1, BATCH // len(bank.points))
    parts = []
    for start in range(0, len(poses.values), size):
        x, y, angle = poses.values[start : start + size].T
        flipped = poses.flipped[start : start + size]
        turn = turns(angle, flipped)
        at = np.einsum("nij,pj->npi", turn, bank.points) + np.column_stack([x, y])[:, None]
        tile, distance = around.nearest(at)
        weight = np.clip(1 - distance / width_px, 0, None).prod(axis=-1)
        view = bank.view_of(angle, flipped)[:, None]
        cosine = np.where(tile < 0, 0.0, alike[view, np.arange(len(bank.points)), tile])
        total = weight.sum(axis=1)
        parts.append((weight * cosine).sum(axis=1) / np.maximum(total, 0.5))
    return np.concatenate(parts)


def _placement(poses: _Poses, place: int) -> Placement:
    x, y, angle = poses.values[place].tolist()
    return Placement(x, y, angle % 360, bool(poses.flipped[place]))
