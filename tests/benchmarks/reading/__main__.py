"""How fast are tiles read? All readers on one made slide, the same regions, in one run.

    python tests/benchmarks/reading [--side-px 10240] [--rounds 5] [--json FILE]

Each round takes the next regions and gives them to every reader in turn, so that whatever else
the machine does falls on all of them alike; no region comes twice, and the first quarter, which
fills the readers' caches, isn't counted. CPU time counts; what a second thread brings is wall time
against one thread's, so it wants two idle cores. Shown are medians over the rounds: regions per
second, and each reader's speed over OpenSlide's in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from contenders import FULL, HALVED, REGION_PX, Contender, Corner, Read
from rich.console import Console
from rich.table import Table

from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid

SEED = 7
TILE_PX = 256
OFF_GRID_PX = 77

CPU, WALL = 0, 1
Seconds = tuple[float, float]
"""CPU seconds and wall seconds, for one region."""

_median = statistics.median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-px", type=int, default=10240, help="side of the made slide")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.tif"
        _write_slide(path, asked.side_px)
        figures = [
            _measure(path, title, contenders, _corners(asked.side_px, shift_px), asked.rounds)
            for title, contenders, shift_px in (
                ("512 px, on the tile grid", FULL, 0),
                ("512 px, off the grid", FULL, OFF_GRID_PX),
                ("512 px to 256 px, on the grid", HALVED, 0),
                ("512 px to 256 px, off the grid", HALVED, OFF_GRID_PX),
            )
        ]
    for table in figures:
        _show(table)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


def _write_slide(path: Path, side_px: int) -> None:
    """Blotches of cell size under fine grain: 2 bits of JPEG a pixel, as much as real tissue."""
    random = np.random.default_rng(SEED)
    coarse = random.integers(60, 255, (side_px // 16, side_px // 16, 3), np.uint8)
    picture = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    for rows in np.array_split(picture, 16):
        grain = random.integers(-12, 12, (*rows.shape[:2], 1), np.int16)
        np.copyto(rows, np.clip(rows + grain, 0, 255).astype(np.uint8))
    spec = PyramidSpec(mpp=0.25, tile_px=TILE_PX, levels=4, quality=80, aperio=False, step=2)
    write_pyramid(path, picture, spec)


def _corners(side_px: int, shift_px: int) -> list[Corner]:
    """Every region once, row by row as a slide is indexed; off the grid the last ones fall out."""
    starts = range(shift_px, side_px - REGION_PX + 1, REGION_PX)
    return [(x, y) for y in starts for x in starts]


def _measure(
    path: Path, title: str, contenders: Sequence[Contender], corners: list[Corner], rounds: int
) -> dict[str, Any]:
    here = [c for c in contenders if c.is_here and not (c.aligned_only and "off" in title)]
    spent: dict[str, list[Seconds]] = {c.name: [] for c in here}
    with ExitStack() as stack:
        reads = {c.name: stack.enter_context(c.opened(path)) for c in here}
        warm = len(corners) // 4  # so many fill every reader's cache, as most of a slide finds it
        for contender in here:
            _seconds(reads[contender.name], corners[:warm], contender.threads)
        for regions in _parts(corners[warm:], rounds):
            for contender in here:
                seconds = _seconds(reads[contender.name], regions, contender.threads)
                spent[contender.name].append(seconds)
    absent = [c.name for c in contenders if not c.is_here]
    return {"title": title, "rows": _rows(spent), "absent": absent, **_ratios(spent)}


def _parts(corners: list[Corner], rounds: int) -> list[list[Corner]]:
    """The regions in their order, cut into as many runs as there are rounds."""
    size = len(corners) // rounds
    return [corners[i * size : (i + 1) * size] for i in range(rounds)]


def _seconds(read: Read, regions: list[Corner], threads: int) -> Seconds:
    """Per region."""
    with ThreadPoolExecutor(threads) as pool:
        run = pool.map if threads > 1 else map
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in run(read, regions):
            pass
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / len(regions), wall / len(regions)


def _rows(spent: dict[str, list[Seconds]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "regions_per_cpu_second": _median(1 / cpu for cpu, _ in seconds),
            "regions_per_second": _median(1 / wall for _, wall in seconds),
            "times_openslide": _ratio(spent["OpenSlide"], seconds, CPU),
        }
        for name, seconds in spent.items()
    }


def _ratios(spent: dict[str, list[Seconds]]) -> dict[str, float]:
    """How near the codec alone we come, and what a second thread brings."""
    own = spent["Microtome"]
    ratios = {"two_threads": _ratio(own, spent["Microtome, two threads"], WALL)}
    if codec := spent.get("the codec alone"):
        ratios["over_the_codec"] = _ratio(own, codec, CPU)
        two = spent["the codec alone, two threads"]
        ratios["two_threads_of_the_codec"] = _ratio(codec, two, WALL)
    return ratios


def _ratio(above: list[Seconds], below: list[Seconds], clock: int) -> float:
    return _median(a[clock] / b[clock] for a, b in zip(above, below, strict=True))


def _show(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['title']} ({os.cpu_count()} cores)", title_justify="left")
    for heading in ("reader", "regions/CPU s", "regions/s", "× OpenSlide"):
        table.add_column(heading, justify="left" if heading == "reader" else "right")
    for name, row in figures["rows"].items():
        cells = row["regions_per_cpu_second"], row["regions_per_second"], row["times_openslide"]
        table.add_row(name, f"{cells[0]:.0f}", f"{cells[1]:.0f}", f"{cells[2]:.1f}")
    console = Console()
    console.print(table)
    console.print(f"  two threads: {figures['two_threads']:.2f} × one, by wall time")
    if "over_the_codec" in figures:
        console.print(
            f"  {figures['over_the_codec']:.2f} × the CPU time of the codec alone,", end=""
        )
        console.print(f" to which two threads bring {figures['two_threads_of_the_codec']:.2f} ×")
    for name in figures["absent"]:
        console.print(f"  {name}: not installed here, left out")
    console.print()


if __name__ == "__main__":
    main()
