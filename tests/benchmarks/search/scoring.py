"""What it costs to score a model: 25,000 queries against 25,000 images, the 100 nearest of each.

faiss's flat index does the same matrix product and keeps the same 100: the mark to stand beside.
Everything runs in one process on the same cores, one method after the other, several rounds; the
median counts, and CPU time beside it where the machine is shared. Memory is the peak of what a
method allocates beyond the vectors; faiss's own can't be seen from Python.

MICROTOME_BENCH_IMAGES: queries, and gallery, 25000 unless said. MICROTOME_BENCH_ROUNDS: 3.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from microtome.evaluation.cosines import scored_blocks
from microtome.evaluation.intervals import intervals
from microtome.evaluation.judging import Labelled, judge_vectors
from microtome.evaluation.left_out import LeftOut
from microtome.evaluation.neighbours import nearest_in

IMAGES = int(os.environ.get("MICROTOME_BENCH_IMAGES", "25000"))
ROUNDS = int(os.environ.get("MICROTOME_BENCH_ROUNDS", "3"))
DIM, K, CLASSES = 512, 100, 24
CORES = len(os.sched_getaffinity(0))


@dataclass
class Method:
    """One way to do it, and the seconds it took in each round, on the clock and of CPU."""

    name: str
    run: Callable[[], Any]
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def measure(self) -> Any:
        started, used = time.perf_counter(), time.process_time()
        found = self.run()
        self.wall_s.append(time.perf_counter() - started)
        self.cpu_s.append(time.process_time() - used)
        return found


def made(seed: int) -> Labelled:
    """Unit vectors around the centre of their class, which few of the nearest miss."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, DIM))
    labels = random.integers(0, CLASSES, IMAGES)
    vectors = random.normal(size=(IMAGES, DIM)) + 0.15 * centres[labels]
    return Labelled(
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels
    )


def by_faiss(gallery: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    index = faiss.IndexFlatIP(DIM)
    index.add(gallery)
    places: NDArray[np.int64] = index.search(queries, K)[1]
    return places


def bare_product(gallery: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    for _ in scored_blocks(gallery, queries, None):
        pass


def peak_mb(run: Callable[[], Any]) -> float:
    """Most that is allocated at once beyond what was before; slower, so apart from the clock."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def beside(seconds: list[float], mark: list[float]) -> list[str]:
    """The median, and how many times the mark's."""
    median = float(np.median(seconds))
    return [f"{median:.1f}", f"{median / float(np.median(mark)):.2f}"]


def main() -> None:
    """Print one table."""
    faiss.omp_set_num_threads(CORES)
    queries, gallery = made(1), made(2)
    groups = [f"case-{place // 100}" for place in range(IMAGES)]
    apart = LeftOut.within(groups)
    sides = gallery.vectors, queries.vectors
    scores = judge_vectors(queries, gallery).scores
    methods = [
        Method(name, run)
        for name, run in {
            "faiss IndexFlatIP": lambda: by_faiss(*sides),
            "our product alone": lambda: bare_product(*sides),
            "nearest_in": lambda: nearest_in(*sides, K),
            "nearest_in, own case left out": lambda: nearest_in(*sides, K, left_out=apart),
            "judge_vectors: all metrics, mAP@R too": lambda: judge_vectors(queries, gallery),
            "intervals: 1,000 draws of 250 cases": lambda: intervals(scores, groups),
        }.items()
    ]
    found = [[method.measure() for method in methods] for _ in range(ROUNDS)][-1]
    same = np.mean(found[0] == found[2].places)
    print(
        f"{IMAGES:,} × {IMAGES:,} × {DIM}, k = {K}, {CORES} cores; of the places {same:.2%} agree"
    )
    print("| | s | × faiss | CPU s | × faiss | peak MB |\n|---|---:|---:|---:|---:|---:|")
    for method in methods:
        cells = [*beside(method.wall_s, methods[0].wall_s), *beside(method.cpu_s, methods[0].cpu_s)]
        cells.append("" if method is methods[0] else f"{peak_mb(method.run):,.0f}")
        print(f"| {method.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
