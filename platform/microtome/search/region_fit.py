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

from microtome.search import patience
from microtome.search.region_around import Around, Box, Compared
from microtome.search.region_bank import STEPS_PER_TILE, Bank
from microtome.search.region_placement import Floats, Placement, turns
from microtome.search.region_votes import ANGLE_STEP_DEG, ANGLES, FLIPS

STARTS: Final = 4
"""Turns that are followed from a spot."""

LEAST_STEP: Final = 1 / 32
"""Of a tile, 7 px of 224: the last round's."""

FEWER: Final = 48
"""Points by which the first round judges every turn."""

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

    def take(self, places: NDArray[np.int64] | slice) -> _Poses:
        return _Poses(self.values[places], self.flipped[places])


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Some points of the query, by their places in its bank, and the tiles of a slide."""

    bank: Bank
    places: NDArray[np.int64]
    compared: Compared

    def agreement(self, poses: _Poses, width_px: float) -> Floats:
        """(N,) of each pose, h being `width_px`; see the module's docstring."""
        size = max(1, BATCH // len(self.places))
        starts = range(0, len(poses.values), size)
        parts = [poses.take(slice(start, start + size)) for start in starts]
        return np.concatenate([self._agreement(part, width_px) for part in parts])

    def _agreement(self, poses: _Poses, width_px: float) -> Floats:
        angle = poses.values[:, 2]
        turn = turns(angle, poses.flipped)
        at = self.bank.points[self.places] @ turn.transpose(0, 2, 1) + poses.values[:, None, :2]
        tile, distance = self.compared.around.nearest(at)
        near = np.maximum(1 - distance / width_px, 0)
        weight = near[..., 0] * near[..., 1]
        view = self.bank.view_of(angle, poses.flipped)[:, None]
        vector = view * len(self.bank.points) + self.places
        cosine = np.where(tile < 0, 0.0, self.compared.cosines[tile, vector])
        agreement: Floats = (weight * cosine).sum(axis=1) / np.maximum(weight.sum(axis=1), 0.5)
        return agreement


def fitted(
    bank: Bank, compared: Compared, box: Box, reach_px: float, spread_px: float
) -> list[Fit]:
    """The best placements with the query's middle about the middle of a box, best first.

    Args:
        bank: the query.
        compared: the stored tiles there, with all vectors of the bank.
        box: the box.
        reach_px: of the query, from its middle to its furthest corner.
        spread_px: how far the middle may be off, and a little more.
    """
    patience.check()
    around = compared.around
    pairs = _Pairs(bank, np.arange(len(bank.points)), compared)
    step, turn = spread_px / 4, ANGLE_STEP_DEG / 2
    poses = _starts(box, 2 * step)
    agreement = _Pairs(bank, bank.some(FEWER), compared).agreement(poses, 2 * step)
    poses = poses.take(_best_of_each_turn(agreement, poses, STARTS))
    while True:
        poses = _stepped(poses, step, turn)
        width = max(step, around.tile_px / STEPS_PER_TILE)
        agreement = pairs.agreement(poses, width)
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


def _starts(box: Box, step_px: float) -> _Poses:
    steps = np.array(list(product((0, -1, 1, -2, 2), repeat=2))) * step_px
    places = np.repeat(np.array([box.x, box.y]) + steps, len(ANGLES), axis=0)
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


def _placement(poses: _Poses, place: int) -> Placement:
    x, y, angle = poses.values[place].tolist()
    return Placement(x, y, angle % 360, bool(poses.flipped[place]))
