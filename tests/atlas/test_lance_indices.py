from __future__ import annotations

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from microtome.atlas.lance_indices import (
    create_scalar_index,
    create_vector_index,
    missing_scalar_indices,
    vector_index_parameters,
    wanted_scalar_indices,
)
from microtome.errors import SettingError
from support.clustered_atlas import Clusters, add_tiles, make_atlas

DIM, ROWS = 32, 3000
CLUSTERS = Clusters(DIM, clusters=20)


@pytest.fixture
def atlas(tmp_path):
    made = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(made, CLUSTERS.drawn(ROWS))
    return made


def test_ids_and_columns_of_few_values_are_indexed(atlas):
    wanted = {"tile_id": "BTREE", "slide_id": "BTREE", "case_id": "BTREE"}
    wanted |= {"site": "BITMAP", "half": "BITMAP"}
    assert wanted_scalar_indices(atlas.tiles) == wanted
    for column, kind in wanted.items():
        create_scalar_index(atlas.tiles, column, kind)
    assert missing_scalar_indices(atlas.tiles) == {}


@pytest.mark.parametrize(
    "where", ["site = 'site-07'", "half", "slide_id <> 'slide-000001'", "tile_id < '5'"]
)
def test_an_index_changes_no_answer(atlas, where):
    before = atlas.tiles.count_rows(where)
    for column, kind in missing_scalar_indices(atlas.tiles).items():
        create_scalar_index(atlas.tiles, column, kind)
    add_tiles(atlas, CLUSTERS.drawn(500, seed=5), first=ROWS)
    after = atlas.tiles.to_table(columns=["x"], filter=where)["x"].to_numpy()
    assert before == (after < ROWS).sum() > 0
    assert (after >= ROWS).any()


@pytest.mark.parametrize("kind", ["IVF_RQ", "IVF_PQ", "IVF_HNSW_SQ"])
def test_lancedb_searches_through_each_kind(atlas, kind):
    (model_id,) = atlas.models
    column = f"vector_{model_id}"
    create_vector_index(atlas.tiles, column, kind)
    (index,) = atlas.tiles.describe_indices()
    assert index.field_names == [column]
    table = lancedb.connect(atlas.uri).open_table("tiles")
    asked = CLUSTERS.drawn(ROWS)[100:120]
    firsts = [
        table.search(vector, column)
        .distance_type("cosine")
        .nprobes(20)
        .refine_factor(10)
        .limit(1)
        .to_arrow()["x"][0]
        .as_py()
        for vector in asked
    ]
    assert np.mean(np.array(firsts) == np.arange(100, 120)) >= 0.95


@pytest.mark.parametrize(
    ("kind", "rows", "parameters"),
    [
        ("IVF_RQ", 100, {"num_partitions": 1, "num_bits": 1}),
        ("IVF_RQ", 1_000_000, {"num_partitions": 122, "num_bits": 1}),
        ("IVF_PQ", 1_000_000, {"num_partitions": 122, "num_sub_vectors": 64}),
        ("IVF_HNSW_SQ", 3_000_000, {"num_partitions": 3, "m": 20, "ef_construction": 150}),
    ],
)
def test_parameters_follow_the_rows(kind, rows, parameters):
    assert vector_index_parameters(kind, rows, pa.list_(pa.float16(), 512)) == parameters


def test_an_unknown_kind_is_refused(atlas):
    with pytest.raises(SettingError, match="IVF_RQ, IVF_PQ, IVF_HNSW_SQ"):
        create_vector_index(atlas.tiles, "vector", "FLAT")
