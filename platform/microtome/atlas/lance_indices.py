"""Lance's own indices: on the columns people filter by, and on vectors.

A search by Microtome uses the former; of vectors only the compact one of `vector_index`. Those on
vectors are for people who query with lancedb. Each function makes at most one commit on the dataset
it is given, so it can be handed to `Writer.transact`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import lance
import pyarrow as pa
import pyarrow.compute as pc

from microtome.atlas.schema import TILES
from microtome.config import check_choice

ScalarIndex = Literal["BTREE", "BITMAP"]
LanceVectorIndex = Literal["IVF_RQ", "IVF_PQ", "IVF_HNSW_SQ"]

MOST_IN_BITMAP: Final = 1000  # distinct values
KEYS: Final = ("tile_id", "slide_id", "case_id")
PARTITION_ROWS: Final = 8192


def wanted_scalar_indices(tiles: lance.LanceDataset) -> dict[str, ScalarIndex]:
    """Which columns of `tiles` deserve an index, and of which kind.

    BTREE on ids, which are asked for one by one; BITMAP on manifest columns of at most a thousand
    different values. None on measurements such as `tissue`: a range that half of a million rows
    pass took 350 ms through a BTREE and 27 ms by reading the column.
    """
    wanted: dict[str, ScalarIndex] = dict.fromkeys(KEYS, "BTREE")
    for field in tiles.schema:
        if field.name in TILES.names or not _is_discrete(field.type):
            continue
        values = tiles.to_table(columns=[field.name])[field.name]
        if pc.count_distinct(values).as_py() <= MOST_IN_BITMAP:
            wanted[field.name] = "BITMAP"
        elif pa.types.is_string(field.type):
            wanted[field.name] = "BTREE"
    return wanted


def missing_scalar_indices(tiles: lance.LanceDataset) -> dict[str, ScalarIndex]:
    """Those of `wanted_scalar_indices` that aren't there."""
    there = {name for index in tiles.describe_indices() for name in index.field_names}
    return {
        column: kind for column, kind in wanted_scalar_indices(tiles).items() if column not in there
    }


def create_scalar_index(tiles: lance.LanceDataset, column: str, kind: ScalarIndex) -> None:
    """Index one column; an index that is there is built anew."""
    check_choice("kind", kind, get_args(ScalarIndex))
    tiles.create_scalar_index(column, kind, name=f"{column}_idx", replace=True)


def create_vector_index(tiles: lance.LanceDataset, column: str, kind: LanceVectorIndex) -> None:
    """Index a vector column for lancedb, by cosine; an index that is there is built anew.

    Parameters follow from the row count, see `vector_index_parameters`. With lancedb ask for
    `.distance_type("cosine").nprobes(n).refine_factor(10)`: it needs more probes than faiss.
    """
    check_choice("kind", kind, get_args(LanceVectorIndex))
    tiles.create_index(
        column,
        kind,
        name=f"{column}_idx",
        metric="cosine",
        replace=True,
        **vector_index_parameters(kind, tiles.count_rows(), tiles.schema.field(column).type),
    )


def vector_index_parameters(
    kind: LanceVectorIndex, rows: int, vectors: pa.FixedSizeListType
) -> dict[str, Any]:
    """Lance's parameters for so many rows.

    Partitions of 8,192 rows: Lance balances them, and with √rows of them six times as many probes
    were needed for the same recall. A graph (`IVF_HNSW_SQ`) wants few and large ones. PQ keeps a
    byte for each 8 values. RQ keeps one bit per value, the one kind lancedb 0.40 and pylance 14
    both read.
    """
    partitions = max(1, round(rows / PARTITION_ROWS))
    match kind:
        case "IVF_RQ":
            return {"num_partitions": partitions, "num_bits": 1}
        case "IVF_PQ":
            return {"num_partitions": partitions, "num_sub_vectors": max(1, vectors.list_size // 8)}
        case "IVF_HNSW_SQ":
            graphs = max(1, round(rows / 2**20))
            return {"num_partitions": graphs, "m": 20, "ef_construction": 150}


def _is_discrete(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind))
