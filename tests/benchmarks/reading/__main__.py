"""How fast are tiles read? All readers on the same slides and regions, in one run.

    make bench-reading
    python tests/benchmarks/reading [--blotches-px 16384] [--tissue-px 10240] [--rounds 9]
                                    [--json FILE]

Each round takes the next regions and gives them to every reader in turn, so that whatever else
the machine does falls on all of them alike; no region comes twice, and the first, which fill the
readers' caches, aren't counted. CPU time counts; what a second thread brings is wall time against
one thread's, so it wants two idle cores. Shown are medians over the rounds, ratios too: each is
taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import psutil
from contenders import CODEC, FULL, HALVED, OURS, REGION_PX, TWO, Contender, Corner
from cores import ASKED_PER_S, measure_cores
from measuring import (
    Rounds,
    alternated,
    cores_taken,
    cpu_ratio,
    in_threads,
    per_cpu_second,
    per_second,
    wall_ratio,
)
from pictures import write_blotches, write_tissue
from rich.console import Console
from rich.table import Table

from microtome.config import GridSettings, MppSettings
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideRef
from microtome.tiles.cut import plan_tiles

OFF_GRID_PX = 77
REGIONS_A_ROUND = 24
WARM = 84
"""So many regions of 512 px fill 64 MiB of decoded tiles."""

WORKS = {"512 px": FULL, "512 px to 256 px": HALVED}
GRIDS = {"on the tile grid": 0, "off the grid": OFF_GRID_PX}
SLIDES: dict[str, Callable[[Path, int], Path]] = {
    "tissue": write_tissue,
    "blotches": write_blotches,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tissue-px", type=int, default=10240, help="side of the made slide")
    parser.add_argument("--blotches-px", type=int, default=16384, help="side of the other one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    console, figures = Console(width=96), []
    console.print(_machine())
    with tempfile.TemporaryDirectory() as folder:
        for name, write in SLIDES.items():
            path = write(Path(folder), getattr(asked, f"{name}_px"))
            for title, contenders in WORKS.items():
                table = _measure(path, f"{name}, {title}", contenders, asked.rounds)
                _show(console, table)
                figures.append(table)
            if name == "tissue":
                cores = measure_cores(path, asked.rounds)
                _show_cores(console, cores)
    console.print(_machine())
    if asked.json:
        asked.json.write_text(json.dumps({"reading": figures, "cores": cores}, indent=1))


def _machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"{model}, {os.cpu_count()} cores; load average {load}; CPU {psutil.cpu_percent(1):.0f} %"
    )


def _measure(
    path: Path, title: str, contenders: Sequence[Contender], rounds: int
) -> dict[str, Any]:
    """One table: each contender on the grid and off it."""
    grids = {
        name: _spent(path, [c for c in contenders if c.is_here and c.reads(shift)], shift, rounds)
        for name, shift in GRIDS.items()
    }
    absent = [c.name for c in contenders if not c.is_here]
    figures = {name: _rows(spent) for name, spent in grids.items()}
    return {"title": title, "absent": absent, "ratios": _ratios(grids), "grids": figures}


def _spent(
    path: Path, contenders: Sequence[Contender], shift_px: int, rounds: int
) -> dict[str, Rounds]:
    corners = _corners(path, shift_px)
    size = min(REGIONS_A_ROUND, (len(corners) - WARM) // rounds)
    if size < 1:
        raise SystemExit(f"{path.name} has {len(corners)} regions: make it larger")
    with ExitStack() as stack:
        works = {}
        for contender in contenders:
            read = stack.enter_context(contender.opened(path))
            works[contender.name] = in_threads(read, contender.threads)
        alternated(works, [corners[:WARM]])
        parts = [corners[WARM + i * size : WARM + (i + 1) * size] for i in range(rounds)]
        return alternated(works, parts)


def _corners(path: Path, shift_px: int) -> list[Corner]:
    """Regions that hold tissue, in the order a slide is indexed; none that would leave it."""
    with open_slide(SlideRef(path.name, str(path)), MppSettings()) as reader:
        slide = reader.slide
        corners = plan_tiles(reader, GridSettings(slide.mpp, REGION_PX, REGION_PX)).corners
    right, lower = slide.width_px - REGION_PX, slide.height_px - REGION_PX
    return [(x, y) for x, y in (corners + shift_px).tolist() if x <= right and y <= lower]


def _rows(spent: dict[str, Rounds]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "per_cpu_s": per_cpu_second(rounds),
            "per_s": per_second(rounds),
            "times_openslide": cpu_ratio(spent["OpenSlide"], rounds),
        }
        for name, rounds in spent.items()
    }


def _ratios(grids: dict[str, dict[str, Rounds]]) -> dict[str, float]:
    """How near the codec alone we come, what a second thread brings, and what stood in its way."""
    on, off = grids.values()
    return {
        "Microtome over the codec, CPU time": cpu_ratio(on[OURS], on[CODEC]),
        "two threads over one, by wall time": wall_ratio(on[OURS], on[OURS + TWO]),
        "the same off the grid": wall_ratio(off[OURS], off[OURS + TWO]),
        "the same of the codec alone": wall_ratio(on[CODEC], on[CODEC + TWO]),
        "cores that other processes kept busy meanwhile": cores_taken(on),
    }


def _show(console: Console, figures: dict[str, Any]) -> None:
    table = Table(title=figures["title"], title_justify="left")
    table.add_column("reader")
    for grid in figures["grids"]:
        table.add_column(f"{grid}:\nper CPU s", justify="right", no_wrap=True)
        table.add_column("\n× OpenSlide", justify="right", no_wrap=True)
    on = next(iter(figures["grids"].values()))
    for name in on:
        cells = [_cells(rows.get(name)) for rows in figures["grids"].values()]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    console.print(table)
    for name, ratio in figures["ratios"].items():
        console.print(f"  {ratio:.2f}  {name}")
    if figures["absent"]:
        console.print(f"  not installed here: {', '.join(figures['absent'])}")
    console.print()


def _cells(row: dict[str, float] | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    return f"{row['per_cpu_s']:.0f}", f"{row['times_openslide']:.1f}"


def _show_cores(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(title="224 px tiles of tissue, as they are cut for a GPU", title_justify="left")
    for heading in ("tiles", "reader"):
        table.add_column(heading)
    table.add_column("tiles/CPU s", justify="right")
    for rate in ASKED_PER_S:
        table.add_column(f"cores for\n{rate:,} a second", justify="right")
    for row in rows:
        cores = (f"{cores:.1f}" for cores in row["cores"].values())
        table.add_row(row["tiles"], row["reader"], f"{row['per_cpu_s']:.0f}", *cores)
    console.print(table)
    console.print()


if __name__ == "__main__":
    main()
