"""Coding vectors for the search index: in one process, and by tasks on Ray.

Vectors are `Clusters` of 512 values, in fragments of 25,000, and centroids are there already, since
finding them isn't spread. A task has one thread. Of three rounds the quickest counts, and none in
which the tasks' processes start.

MICROTOME_BENCH_CODING_ROWS: how many, 200,000 unless said.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from microtome.atlas import index_codes
from microtome.atlas.index_codes import TRAIN_PER_LIST, CodePlan, Codes
from microtome.atlas.index_coding import Coder, CodingWork, code_here
from microtome.engine.cluster import cluster
from microtome.engine.index_coding import CodingOnRay
from support.clustered_atlas import Clusters, add_tiles, make_atlas

ROWS = int(os.environ.get("MICROTOME_BENCH_CODING_ROWS", "200000"))
DIM, FRAGMENT_ROWS, ROUNDS = 512, 25_000, 3
CLUSTERS = Clusters(DIM)


def with_threads(count: int) -> Coder:
    """In this process, with so many threads."""

    def code(codes: Codes, work: CodingWork) -> int:
        index_codes.THREADS = count
        return code_here(codes, work)

    return code


WAYS: dict[str, Coder] = {
    "one process, one thread": with_threads(1),
    "one process, two threads": with_threads(2),
    "one task at a time": CodingOnRay(1, FRAGMENT_ROWS),
    "two tasks at a time": CodingOnRay(2, FRAGMENT_ROWS),
}


def main() -> None:
    """Print the table."""
    print(f"## Coding\n\n{os.cpu_count()} cores, {ROWS:,} vectors of {DIM} values", end="")
    with tempfile.TemporaryDirectory() as folder, cluster():
        atlas = make_atlas(str(Path(folder) / "atlas"), DIM)
        for first in range(0, ROWS, FRAGMENT_ROWS):
            add_tiles(atlas, CLUSTERS.drawn(FRAGMENT_ROWS, seed=first), first)
        work = CodingWork.of(atlas, atlas.tiles, *atlas.models)
        plan = CodePlan.for_rows(ROWS)
        began = time.perf_counter()
        bare = Codes.trained(plan, CLUSTERS.drawn(plan.lists * TRAIN_PER_LIST)).bare()
        print(f", {plan.lists} lists found in {time.perf_counter() - began:.1f} s")
        WAYS["two tasks at a time"](Codes.of_bare(bare), work)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            parts = []
            for name, code in WAYS.items():
                codes = Codes.of_bare(bare)
                began = time.perf_counter()
                code(codes, work)
                seconds[name].append(time.perf_counter() - began)
                parts.append(codes.part())
            assert all(np.array_equal(one.row_ids, parts[0].row_ids) for one in parts)
            assert all(np.array_equal(one.codes, parts[0].codes) for one in parts)
    best = {name: min(took) for name, took in seconds.items()}
    alone = best["one process, one thread"]
    print("\n| | s | × one thread |\n|---|---:|---:|")
    for name, took in best.items():
        print(f"| {name} | {took:.1f} | {alone / took:.2f} |")
    print("\nRow ids and codes are the same, byte for byte.")


if __name__ == "__main__":
    main()
