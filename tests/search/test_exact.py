from __future__ import annotations

import lance
import numpy as np
import pyarrow as pa
import pytest

from microtome.search import exact
from microtome.search.exact import nearest

ROWS, DIM = 1000, 24


@pytest.fixture(scope="module")
def vectors():
    values = np.random.default_rng(0).normal(size=(ROWS, DIM))
    values[500:520] = values[500]  # twenty tiles that look the same
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def tiles(vectors, tmp_path_factory):
    """Ids in an order of their own, two slides, every tenth tile without a vector."""
    ids = np.random.default_rng(1).permutation(ROWS)
    column = [None if i % 10 == 9 else vector for i, vector in enumerate(vectors)]
    table = pa.table(
        {
            "tile_id": [f"{i:032x}" for i in ids],
            "slide_id": ["a", "b"] * (ROWS // 2),
            "vector": pa.array(column, pa.list_(pa.float16(), DIM)),
        }
    )
    uri = str(tmp_path_factory.mktemp("exact") / "tiles.lance")
    return lance.write_dataset(table, uri, max_rows_per_file=300)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Many blocks, so that the best are kept from one to the next."""
    monkeypatch.setattr(exact, "BLOCK_BYTES", 64 * DIM * 4)


def by_hand(tiles, vectors, query, rows) -> list[str]:
    """Slow and plain: every cosine in float64, sorted by score, then id."""
    ids = tiles.to_table(columns=["tile_id"])["tile_id"].to_pylist()
    wide = vectors.astype(np.float64)
    scores = wide @ query / np.linalg.norm(wide, axis=1)
    return [ids[i] for i in sorted(rows, key=lambda i: (-round(scores[i], 6), ids[i]))]


def ids_of(tiles, found) -> list[str]:
    return tiles._take_rows(found.row_ids.tolist(), columns=["tile_id"])["tile_id"].to_pylist()


@pytest.mark.parametrize("k", [1, 10, 150, 10**6])
@pytest.mark.parametrize(("where", "step"), [(None, 1), ("slide_id = 'a'", 2)])
def test_the_nearest_are_those_found_by_hand(tiles, vectors, k, where, step):
    query = vectors[3].astype(np.float32)
    rows = [i for i in range(0, ROWS, step) if i % 10 != 9]
    found = nearest(tiles, "vector", query[None], k=k, where=where)
    assert ids_of(tiles, found) == by_hand(tiles, vectors, query.astype(np.float64), rows)[:k]


def test_scores_are_cosines(tiles, vectors):
    query = vectors[3].astype(np.float32)
    found = nearest(tiles, "vector", (query / np.linalg.norm(query))[None], k=1)
    assert found.scores[0] == pytest.approx(1.0, abs=1e-6)


def test_equal_tiles_come_by_id_even_where_k_cuts_them(tiles, vectors):
    query = vectors[500].astype(np.float32)
    twins = [i for i in range(500, 520) if i % 10 != 9]
    first = by_hand(tiles, vectors, query.astype(np.float64), twins)
    for k in (3, 7, 18):
        assert ids_of(tiles, nearest(tiles, "vector", query[None], k=k)) == first[:k]


def test_tiles_without_a_vector_are_counted_not_found(tiles, vectors):
    found = nearest(tiles, "vector", vectors[:1].astype(np.float32), k=10**6)
    assert (found.seen, found.scored, len(found.row_ids)) == (ROWS, 900, 900)


def test_offsets_are_right_after_rows_were_deleted(tiles, vectors, tmp_path):
    copy = lance.write_dataset(tiles.to_table(), str(tmp_path / "t.lance"), max_rows_per_file=300)
    copy.delete("slide_id = 'b'")
    copy = lance.dataset(copy.uri)
    query = vectors[600].astype(np.float32)
    found = nearest(copy, "vector", query[None], k=5)
    rows = [i for i in range(0, ROWS, 2) if i % 10 != 9]
    assert ids_of(copy, found) == by_hand(tiles, vectors, query.astype(np.float64), rows)[:5]


def test_nothing_passes_the_filter(tiles, vectors):
    found = nearest(tiles, "vector", vectors[:1].astype(np.float32), k=5, where="false")
    assert (found.seen, len(found.row_ids), len(found.scores)) == (0, 0, 0)


def test_of_several_query_vectors_the_nearest_one_counts(tiles, vectors):
    queries = vectors[[3, 600]].astype(np.float32)
    found = nearest(tiles, "vector", queries, k=ROWS)
    alone = [nearest(tiles, "vector", query[None], k=ROWS) for query in queries]
    best = {
        offset: max(dict(zip(one.row_ids, one.scores, strict=True))[offset] for one in alone)
        for offset in alone[0].row_ids
    }
    assert dict(zip(found.row_ids, found.scores, strict=True)) == pytest.approx(best, abs=1e-6)
