"""What does it cost to read a slide where it lies in S3? Bytes, requests and time.

    python tests/benchmarks/reading/remote.py [--side-px 16384] [--rounds 7] [--json FILE]

One made slide on this disk and in a store on loopback, near and 50 ms away; each round cuts all of
its tiles from each in turn, with two threads and nothing in memory. Shown are medians over the
rounds. The store's own work falls on the same machine, and its sockets on the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from far_store import FarStore, far_store
from measuring import (
    Rounds,
    Work,
    alternated,
    cores_taken,
    cpu_ratio,
    per_cpu_second,
    per_second,
    wall_ratio,
)
from pictures import write_tissue
from rich.console import Console
from rich.table import Table

from microtome.config import GridSettings, MppSettings
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideReader, SlideRef
from microtome.slides.tiff_flavours import read_layout
from microtome.slides.tiff_source import LocalFile
from microtome.tiles.cut import TilePlan, cut_tiles, plan_tiles
from microtome.tiles.thumbnail import thumbnail

GRID = GridSettings(mpp=0.5, tile_px=256)
THREADS = 2
BATCH = 64
FAR_MS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-px", type=int, default=16384, help="side of the made slide")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_tissue(Path(folder), asked.side_px)
        with far_store(path) as store:
            os.environ.update(store.variables)
            figures = {"moved": _moved(path, store), "speed": _speed(path, store, asked.rounds)}
    _show(figures)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2))


def _opened(uri: str) -> SlideReader:
    return open_slide(SlideRef("made", uri), MppSettings())


def _moved(path: Path, store: FarStore) -> dict[str, Any]:
    """Bytes and requests of each step, beside the bytes of the tiles that it needs."""
    steps: dict[str, tuple[int, int]] = {}
    with _opened(store.uri) as reader:

        def done(step: str) -> None:
            steps[step] = reader.bytes_read, store.requests.value

        done("header")
        plan = plan_tiles(reader, GRID)
        done("mask")
        thumbnail(reader)
        done("thumbnail")
        _cut(reader, plan)
        done("tiles")
    before, rows = (0, 0), {}
    for step, after in steps.items():
        rows[step] = {"bytes": after[0] - before[0], "requests": after[1] - before[1]}
        before = after
    needed = _tissue_bytes(path, plan)
    return {
        "steps": rows,
        "tissue_tile_bytes": needed,
        "over_tissue_tiles": rows["tiles"]["bytes"] / needed,
        "file_bytes": path.stat().st_size,
        "over_file": before[0] / path.stat().st_size,
        "planned_tiles": len(plan),
    }


def _tissue_bytes(path: Path, plan: TilePlan) -> int:
    """Of the file's tiles that a planned tile touches."""
    with LocalFile(str(path), path.name) as source:
        level = read_layout(source).levels[plan.read.scale.level]
    height, width = level.encoding.tile_size_px
    side = plan.read.read_px * plan.read.scale.reduction
    touched = {
        row * level.columns + column
        for x, y in (plan.corners / level.downsample).astype(int).tolist()
        for row in range(y // height, (y + side - 1) // height + 1)
        for column in range(x // width, (x + side - 1) // width + 1)
    }
    inside = [tile for tile in touched if tile < len(level.byte_counts)]
    return int(level.byte_counts[inside].sum())


def _speed(path: Path, store: FarStore, rounds: int) -> dict[str, Any]:
    with _opened(str(path)) as reader:
        plan = plan_tiles(reader, GRID)

    def cutting(uri: str, latency_ms: int) -> Work:
        def work(_: Sequence[Any]) -> int:
            store.latency_ms.value = latency_ms
            return _cut(opened[uri].pop(), plan)

        return work

    # Opened before the clock starts, one for each round: none finds tiles of another in memory.
    opened = {str(path): [_opened(str(path)) for _ in range(rounds)]}
    opened[store.uri] = [_opened(store.uri) for _ in range(2 * rounds)]
    far = f"S3, {FAR_MS} ms a request"
    works = {
        "local disk": cutting(str(path), 0),
        "S3 on loopback": cutting(store.uri, 0),
        far: cutting(store.uri, FAR_MS),
    }
    spent = alternated(works, [[None]] * rounds)
    local = spent["local disk"]
    return {
        "rows": {name: _row(one, local) for name, one in spent.items()},
        "tiles": len(plan),
        "cores_taken": cores_taken(spent),
    }


def _row(rounds: Rounds, local: Rounds) -> dict[str, float]:
    return {
        "tiles_per_second": per_second(rounds),
        "tiles_per_cpu_second": per_cpu_second(rounds),
        "times_local": wall_ratio(rounds, local),
        "cpu_times_local": cpu_ratio(rounds, local),
    }


def _cut(reader: SlideReader, plan: TilePlan) -> int:
    with reader:
        return sum(map(len, cut_tiles(reader, plan, batch_size=BATCH, threads=THREADS)))


def _show(figures: dict[str, Any]) -> None:
    console, moved, speed = Console(width=96), figures["moved"], figures["speed"]
    table = Table(title="bytes moved for one slide", title_justify="left")
    table.add_column("step")
    for heading in ("KB", "requests"):
        table.add_column(heading, justify="right")
    for step, row in moved["steps"].items():
        table.add_row(step, f"{row['bytes'] / 1000:,.0f}", str(row["requests"]))
    console.print(table)
    console.print(
        f"  tiles: {moved['over_tissue_tiles']:.3f} × the {moved['tissue_tile_bytes'] / 1000:,.0f} "
        f"KB that hold tissue; in all {moved['over_file']:.2f} × the file's "
        f"{moved['file_bytes'] / 1000:,.0f} KB\n"
        "  requests of the header count the 18 that the slide's identity is hashed from\n"
    )
    title = f"{speed['tiles']} tiles of 256 px, {THREADS} threads, {os.cpu_count()} cores"
    table = Table(title=title, title_justify="left")
    table.add_column("from")
    for heading in ("tiles/s", "tiles/CPU s", "time × local", "CPU × local"):
        table.add_column(heading, justify="right")
    for name, row in speed["rows"].items():
        table.add_row(
            name,
            f"{row['tiles_per_second']:,.0f}",
            f"{row['tiles_per_cpu_second']:,.0f}",
            f"{row['times_local']:.2f}",
            f"{row['cpu_times_local']:.2f}",
        )
    console.print(table)
    console.print(
        f"  other processes, the store's among them, kept {speed['cores_taken']:.1f} cores busy"
    )


if __name__ == "__main__":
    main()
