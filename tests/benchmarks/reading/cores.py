"""How many CPU cores keep one embedding GPU busy? Tiles as the indexing job cuts them.

Planned and cut by `plan_tiles` and `cut_tiles` in one thread, so resizing, sharpness and batching
are in the figure. A slide of half the wanted µm per pixel is the usual one (0.25 for 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import Work, alternated, per_cpu_second

from microtome.config import GridSettings, MppSettings, ReaderChoice
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome.tiles.cut import TilePlan, cut_tiles, plan_tiles

READERS: dict[ReaderChoice, str] = {"openslide": "OpenSlide", "tiff": "Microtome"}
ASKED_PER_S = (1000, 3000)
BATCH = 64


def measure_cores(path: Path, rounds: int) -> list[dict[str, Any]]:
    """Rows of the table: slide, reader, tiles per CPU second, cores for each rate asked."""
    rows = []
    for kind, factor in (("at its own resolution", 1), ("at half its resolution", 2)):
        for reader, speed in _tiles_per_cpu_second(path, factor, rounds).items():
            cores = {rate: rate / speed for rate in ASKED_PER_S}
            rows.append({"tiles": kind, "reader": reader, "per_cpu_s": speed, "cores": cores})
    return rows


def _tiles_per_cpu_second(path: Path, factor: int, rounds: int) -> dict[str, float]:
    with ExitStack() as stack:
        works = {}
        for choice, name in READERS.items():
            ref = SlideRef(path.name, str(path))
            reader = stack.enter_context(open_slide(ref, MppSettings(), choice))
            plan = plan_tiles(reader, GridSettings(mpp=reader.slide.mpp * factor))
            works[name] = _cutting(reader, plan)
        size = len(plan) // (rounds + 1)
        parts = [range(i * size, (i + 1) * size) for i in range(rounds + 1)]
        spent = alternated(works, parts)
    return {name: per_cpu_second(seconds[1:]) for name, seconds in spent.items()}


def _cutting(reader: SlideReader, plan: TilePlan) -> Work:
    def work(tiles: Sequence[int]) -> int:
        part = slice(tiles[0], tiles[-1] + 1)
        some = replace(plan, corners=plan.corners[part], tissue=plan.tissue[part])
        return sum(len(b.pixels) for b in cut_tiles(reader, some, batch_size=BATCH, threads=1))

    return work
