"""Lines over the number of neighbours as an SVG picture that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 640
HEIGHT: Final = 300
LEFT: Final = 44
RIGHT: Final = 190
TOP: Final = 12
BOTTOM: Final = 36
LABEL_PX: Final = 16
LONGEST: Final = 26
COLOURS: Final = 6
"""The page's style has so many, `.line0` to `.line5`; further lines take them again."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line.

    Attributes:
        name: stands at its end.
        values: (K,) from 0 to 1, for k = 1 … K.
        faint: drawn dashed and grey: chance.
    """

    name: str
    values: NDArray[np.float64]
    faint: bool = False


def draw_curves(curves: Sequence[Curve], title: str) -> str:
    """The lines with axes and their names, as one `<svg>` element; every name is escaped."""
    most = max(len(curve.values) for curve in curves)
    parts = [_frame(most)]
    ends = _apart([_y(curve.values[-1]) for curve in curves])
    number = 0
    for curve, end in zip(curves, ends, strict=True):
        style = "chance" if curve.faint else f"line{number % COLOURS}"
        number += not curve.faint
        points = " ".join(
            f"{_x(k, most):.1f},{_y(value):.1f}" for k, value in enumerate(curve.values, start=1)
        )
        name = curve.name if len(curve.name) <= LONGEST else f"{curve.name[: LONGEST - 1]}…"
        parts.append(
            f'<g class="{style}"><title>{escape(curve.name)}</title><polyline points="{points}"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{end + 4:.1f}">{escape(name)}</text></g>'
        )
    return (
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f"aria-label={quoteattr(title)}>{''.join(parts)}</svg>"
    )


def _frame(most: int) -> str:
    """Grid lines at quarters, ticks at some k."""
    rows = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(v):.1f}" y2="{_y(v):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{_y(v) + 4:.1f}" text-anchor="end">{v:.0%}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    ticks = "".join(
        f'<text x="{_x(k, most):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{k}</text>'
        for k in sorted({1, *range(5, most + 1, 5), most})
    )
    label = (
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 3}" text-anchor="middle">'
        "k, neighbours looked at</text>"
    )
    return f'<g class="frame">{rows}{ticks}{label}</g>'


def _x(k: int, most: int) -> float:
    return LEFT + (WIDTH - RIGHT - LEFT) * (k - 1) / max(most - 1, 1)


def _y(value: float) -> float:
    return TOP + (HEIGHT - BOTTOM - TOP) * (1 - value)


def _apart(wanted: Sequence[float]) -> list[float]:
    """Where names stand so that none covers another: near where they want to, in their order."""
    placed = [0.0] * len(wanted)
    lowest = HEIGHT - BOTTOM - LABEL_PX * (len(wanted) - 1)
    last = -float(LABEL_PX)
    for rank, place in enumerate(np.argsort(wanted, kind="stable").tolist()):
        last = placed[place] = max(last + LABEL_PX, min(wanted[place], lowest + rank * LABEL_PX))
    return placed
