"""Search of a large atlas, beside other indices, filtered, and as it grows.

Vectors are `Clusters` of 512 values, see there: a third of a query's ten nearest lie in the list it
would look into first. One atlas is grown through the sizes; queries are further vectors of the same
clusters. Recall is that of the ten nearest, by an exact scan in float32. Everything runs in one
process, one method after the other on the same queries, so compare within a run. A rival is given
the least effort of a few at which it reaches the recall, all vectors in memory for its re-ranking
where it has no table, and our number of lists.

MICROTOME_BENCH_ROWS: sizes, e.g. 100000,1000000; all is measured at the first from a million on.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import rivals
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.index_building import refresh_index
from microtome.atlas.index_files import drop_index
from microtome.atlas.schema import vector_column
from microtome.atlas.vector_index import open_index, row_places, unit_vectors
from microtome.atlas.writer import open_writer
from microtome.search.exact import nearest
from microtome.search.finder import Finder, Wanted
from microtome.search.hits import read_hits
from support.clustered_atlas import Clusters, append_tiles, make_atlas

SIZES = [
    int(n) for n in os.environ.get("MICROTOME_BENCH_ROWS", "100000,1000000,3000000").split(",")
]
DIM, K, QUERIES, BATCH = 512, 10, 128, 64
RECALL = 0.95
FILTERS = {"none": None, "50 %": "half", "1 %": "site = 'site-07'"}
CLUSTERS = Clusters(DIM)


@dataclass(frozen=True)
class Measured:
    """One method at one size: recall@10, median ms alone, ms per query of a batch."""

    name: str
    recall: float
    alone_ms: float
    batch_ms: float
    index_bytes: int = 0
    build_s: float = 0.0

    def row(self) -> str:
        cells = [
            f"{self.recall:.3f}",
            f"{self.alone_ms:.2f}",
            f"{self.batch_ms:.2f}",
            f"{self.index_bytes / 1e6:,.0f}",
            f"{self.build_s:,.0f}",
        ]
        return f"| {self.name} | {' | '.join(cells)} |"


def grow(atlas: Atlas, rows: int) -> None:
    """Append tiles until there are so many."""
    there = atlas.tiles.count_rows()
    with open_writer(atlas.uri, "bench") as writer:
        seen = 0
        for vectors in CLUSTERS.vectors(rows):
            if len(fresh := vectors[max(0, there - seen) :]):
                append_tiles(writer, atlas, fresh, max(there, seen))
            seen += len(vectors)


def truth(atlas: Atlas, queries: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    """(Q, 10) row ids of the nearest, per filter, in one scan."""
    column = vector_column(next(iter(atlas.models)))
    tiles = atlas.tiles
    kept = {
        name: np.isin(
            row_places(tiles)[0],
            tiles.scanner(columns=[], filter=where, with_row_id=True).to_table()["_rowid"],
        )
        for name, where in FILTERS.items()
    }
    best = {
        name: (np.full((len(queries), K), -9, np.float32), np.zeros((len(queries), K), np.int64))
        for name in FILTERS
    }
    scanner = tiles.scanner(columns=[column], with_row_id=True, batch_size=16_384)
    for block in scanner.to_batches():
        cosines = queries @ unit_vectors(block.column(column)).T
        rows = block.column("_rowid").to_numpy().astype(np.int64)
        for name, (scores, found) in best.items():
            masked = np.where(kept[name][rows], cosines, -9)  # ids count from 0 without a gap here
            both = np.concatenate([scores, masked], axis=1)
            ids = np.concatenate([found, np.broadcast_to(rows, masked.shape)], axis=1)
            top = np.argpartition(-both, K, axis=1)[:, :K]
            best[name] = (np.take_along_axis(both, top, 1), np.take_along_axis(ids, top, 1))
    return {name: found for name, (_, found) in best.items()}


def recall_of(found: Iterable[Iterable[int]], true: NDArray[np.int64]) -> float:
    pairs = zip(found, true, strict=True)
    return float(np.mean([len(set(map(int, one)) & set(own.tolist())) / K for one, own in pairs]))


Search = Callable[[NDArray[np.float32]], list[list[int]]]


def measure(
    name: str, search: Search, queries: NDArray[np.float32], true: NDArray[np.int64], **facts: float
) -> Measured:
    """Ask one by one, then in batches; `search` takes (Q, D)."""
    search(queries[:BATCH])  # caches
    alone, found = [], []
    faiss.omp_set_num_threads(1)  # on a busy machine, several wait for one another at one query
    for query in queries:
        started = time.perf_counter()
        found += search(query[None])
        alone.append(time.perf_counter() - started)
    batches = []
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    for _ in range(5):
        started = time.perf_counter()
        search(queries[:BATCH])
        batches.append(time.perf_counter() - started)
    return Measured(
        name,
        recall_of(found, true),
        float(np.median(alone)) * 1e3,
        float(np.median(batches)) / BATCH * 1e3,
        **facts,  # type: ignore[arg-type]
    )


def ours(finder: Finder, where: str | None = None, *, hits: bool = False) -> Search:
    """Our search; with hits, their rows are read too."""
    view = finder.view()

    def search(queries: NDArray[np.float32]) -> list[list[int]]:
        found = finder.find(view, list(queries[:, None]), Wanted(K, where))
        if hits:
            for one in found:
                read_hits(view.tiles, one.row_ids.tolist(), one.scores.tolist())
        return [one.row_ids.tolist() for one in found]

    return search


def first_probe(atlas: Atlas, queries: NDArray[np.float32], true: NDArray[np.int64]) -> float:
    """Share of the nearest that lie in the one list a query is nearest to."""
    (model_id,) = atlas.models
    index = open_index(atlas, model_id)
    assert index is not None
    found = index.codes.search(queries, 4096, 1)
    pairs = zip(found, true, strict=True)
    return float(np.mean([np.isin(own, one).mean() for one, own in pairs]))


def filters(finder: Finder, queries: NDArray[np.float32], true: dict[str, NDArray]) -> None:
    print("\n| filter keeps | recall@10 | alone, ms | × unfiltered | first time, ms |")
    print("|---|---:|---:|---:|---:|")
    plain = 0.0
    for name, where in FILTERS.items():
        view, cold = Finder(finder._atlas, finder.model_id).view(), []  # one without a cache
        for _ in range(5):
            fresh = Finder(finder._atlas, finder.model_id)
            fresh._view, fresh._looked_s = view, time.monotonic()
            started = time.perf_counter()
            ours(fresh, where)(queries[:1])
            cold.append(time.perf_counter() - started)
        found = measure(name, ours(finder, where), queries, true[name])
        plain = plain or found.alone_ms
        share = "all" if where is None else name
        print(
            f"| {share} | {found.recall:.3f} | {found.alone_ms:.2f} | "
            f"{found.alone_ms / plain:.2f} | {np.median(cold) * 1e3:.1f} |",
            flush=True,
        )


def exact(atlas: Atlas, queries: NDArray[np.float32]) -> None:
    (model_id,) = atlas.models
    tiles, seconds = atlas.tiles, []
    for query in queries[:5]:
        started = time.perf_counter()
        nearest(tiles, vector_column(model_id), query[None], k=K)
        seconds.append(time.perf_counter() - started)
    read_gb = tiles.count_rows() * DIM * 2 / 1e9
    block = np.ones(1 << 27, dtype=np.uint8)
    started = time.perf_counter()
    block.copy()
    copy_gb_s = 2 * len(block) / 1e9 / (time.perf_counter() - started)
    print(
        f"\nExact scan of {tiles.count_rows():,} rows: {np.median(seconds) * 1e3:,.0f} ms, "
        f"{read_gb / np.median(seconds):.1f} GB of vectors per second (a copy in memory moves "
        f"{copy_gb_s:.1f} GB/s).",
        flush=True,
    )


def beside_rivals(
    atlas: Atlas, mine: Measured, queries: NDArray[np.float32], true: NDArray[np.int64]
) -> None:
    """Every method at one size."""
    print("\n| | recall@10 | alone, ms | batch of 64, ms each | index, MB | build, s |")
    print("|---|---:|---:|---:|---:|---:|")
    print(mine.row(), flush=True)
    for rival in (rivals.faiss_ivf_pq, rivals.lancedb_ivf_rq, rivals.hnswlib_graph):
        found = None  # where the rival isn't installed
        for name, search, index_bytes, build_s, its_true in rival(atlas, queries, true):
            found = measure(
                name, search, queries, its_true, index_bytes=index_bytes, build_s=build_s
            )
            if found.recall >= RECALL:
                break
        if found:
            print(found.row(), flush=True)


def main() -> None:
    """Print every table."""
    queries = CLUSTERS.drawn(QUERIES, seed=1)
    growth = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=os.environ.get("MICROTOME_BENCH_FOLDER")) as folder:
        atlas = make_atlas(str(Path(folder) / "atlas"), DIM)
        (model_id,) = atlas.models
        print(f"## Search\n\n{os.cpu_count()} cores, faiss {faiss.__version__}, {DIM} values")
        full = next((size for size in SIZES if size >= 1_000_000), SIZES[-1])
        for rows in SIZES:
            grow(atlas, rows)
            true = truth(atlas, queries)
            drop_index(atlas.uri, model_id)
            began = time.perf_counter()
            card = refresh_index(atlas, model_id).card
            build_s = time.perf_counter() - began
            assert card is not None
            began = time.perf_counter()
            finder = Finder(atlas, model_id)
            finder.view()
            open_s = time.perf_counter() - began
            facts = {"index_bytes": card.size_bytes, "build_s": build_s}
            mine = measure("**Microtome**", ours(finder), queries, true["none"], **facts)
            with_hits = measure("", ours(finder, hits=True), queries, true["none"])
            cheap = first_probe(atlas, queries, true["none"])
            growth.append((rows, card, mine, with_hits, open_s, cheap))
            print(f"\n{rows:,} rows after {time.perf_counter() - started:,.0f} s", flush=True)
            if rows == full:
                filters(finder, queries, true)
                exact(atlas, queries)
                beside_rivals(atlas, mine, queries, true["none"])
    print(
        "\n| rows | recall@10 | in its first list | alone, ms | with the hits' rows, ms "
        "| batch of 64, ms each | bytes per row, of 2,048 | build, s | opened, s |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for rows, card, mine, with_hits, open_s, cheap in growth:
        print(
            f"| {rows:,} | {mine.recall:.3f} | {cheap:.2f} | {mine.alone_ms:.2f} | "
            f"{with_hits.alone_ms:.2f} | {mine.batch_ms:.2f} | {card.size_bytes / rows:.0f} | "
            f"{mine.build_s:,.0f} | {open_s:.1f} |"
        )


if __name__ == "__main__":
    main()
