"""Other indices on the vectors of an atlas, each at rising effort.

Each yields name, search, bytes of the index, seconds to build it, and the true neighbours.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import lancedb
import numpy as np
from lancedb.index import IvfRq
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.index_codes import TRAIN_PER_LIST, CodePlan
from microtome.atlas.schema import vector_column
from microtome.atlas.vector_index import unit_vectors

Vectors = NDArray[np.float32]
Found = tuple[str, Callable[[Vectors], list[list[int]]], int, float, NDArray[np.int64]]
K = 10
HNSW_ROWS = 100_000  # a million would take 20 minutes and 2.3 GB


def stored(atlas: Atlas, rows: int | None = None) -> Iterator[Vectors]:
    """The vectors in blocks, in the order of their row ids, which count from 0."""
    (model_id,) = atlas.models
    scanner = atlas.tiles.scanner(
        columns=[vector_column(model_id)], limit=rows, batch_size=16_384, scan_in_order=True
    )
    for block in scanner.to_batches():
        yield unit_vectors(block.column(0))


def faiss_ivf_pq(atlas: Atlas, queries: Vectors, true: NDArray[np.int64]) -> Iterator[Found]:
    """64 bytes a vector; the best candidates compared again with float16 vectors in memory."""
    plan = CodePlan.for_rows(atlas.tiles.count_rows())
    dim = queries.shape[1]
    started = time.perf_counter()
    coarse = faiss.IndexFlatIP(dim)
    pq = faiss.IndexIVFPQ(coarse, dim, plan.lists, 64, 8, faiss.METRIC_INNER_PRODUCT)
    pq.cp.niter, pq.cp.max_points_per_centroid = 8, TRAIN_PER_LIST
    whole = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index = faiss.IndexRefine(pq, whole)
    blocks = stored(atlas)
    first = np.concatenate(list(itertools.islice(blocks, 4)))
    pq.train(first)
    index.is_trained = True
    index.add(first)
    for block in blocks:
        index.add(block)
    build_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        faiss.write_index(pq, f"{folder}/pq")
        size = Path(f"{folder}/pq").stat().st_size
    for probes, factor in ((0.75, 10), (1, 10), (1, 15), (1, 20), (1.5, 20), (2, 30), (4, 40)):
        options = faiss.IndexRefineSearchParameters(
            k_factor=factor,
            base_index_params=faiss.SearchParametersIVF(nprobe=int(probes * plan.probes)),
        )

        def search(vectors: Vectors, options: object = options) -> list[list[int]]:
            return index.search(vectors, K, params=options)[1].tolist()

        name = f"faiss IVF-PQ64, {int(probes * plan.probes)} probes, {factor * K} compared again"
        yield name, search, size, build_s, true


def lancedb_ivf_rq(atlas: Atlas, queries: Vectors, true: NDArray[np.int64]) -> Iterator[Found]:
    """LanceDB's own, with its defaults, through its Python package."""
    (model_id,) = atlas.models
    column = vector_column(model_id)
    table = atlas.table("tiles")
    started = time.perf_counter()
    table.create_index(column, config=IvfRq(distance_type="cosine"), name="rq")
    build_s = time.perf_counter() - started
    folder = Path(atlas.uri) / "tiles.lance" / "_indices"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    row_of = {
        name: row
        for row, name in enumerate(atlas.tiles.to_table(columns=["tile_id"])[0].to_pylist())
    }
    for probes, factor in ((20, 5), (40, 5), (40, 10), (80, 10), (160, 20)):

        def search(vectors: Vectors, probes: int = probes, factor: int = factor) -> list[list[int]]:
            asked = table.search(vectors if len(vectors) > 1 else vectors[0], column)
            asked = asked.distance_type("cosine").nprobes(probes).refine_factor(factor).limit(K)
            found = asked.select(["tile_id", "_distance"]).to_arrow()
            rows = [row_of[name] for name in found["tile_id"].to_pylist()]
            if len(vectors) == 1:
                return [rows]
            owners = found["query_index"].to_pylist()
            lists: list[list[int]] = [[] for _ in vectors]
            for owner, row in zip(owners, rows, strict=True):
                lists[owner].append(row)
            return lists

        name = f"LanceDB {lancedb.__version__} IVF_RQ, {probes} probes, refine {factor}"
        yield name, search, size, build_s, true


def hnswlib_graph(atlas: Atlas, queries: Vectors, true: NDArray[np.int64]) -> Iterator[Found]:
    """The ceiling: all vectors and a graph in memory, of the first rows only."""
    try:
        import hnswlib
    except ImportError:
        return
    some = np.concatenate(list(stored(atlas, HNSW_ROWS)))
    scores = queries @ some.T
    its_true = np.argpartition(-scores, K, axis=1)[:, :K]
    started = time.perf_counter()
    graph = hnswlib.Index("ip", queries.shape[1])
    graph.init_index(len(some), M=16, ef_construction=100)
    graph.add_items(some)
    build_s = time.perf_counter() - started
    size = graph.index_file_size()
    for effort in (20, 40, 80, 160, 320):

        def search(vectors: Vectors, effort: int = effort) -> list[list[int]]:
            graph.set_ef(effort)
            return graph.knn_query(vectors, K, num_threads=min(2, len(vectors)))[0].tolist()

        yield f"hnswlib, {len(some):,} rows only, ef {effort}", search, size, build_s, its_true
