"""Other values for some columns: in place, with rows, other columns and indices as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from microtome.atlas import writer
from microtome.atlas.columns import ColumnFile, TableVersion, replace_columns
from microtome.atlas.schema import vector_column, vector_field
from microtome.errors import AtlasWriteFailed
from support.made_atlas import CARD, MadeAtlas

VECTOR = vector_column(CARD.model_id)


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    """Three fragments of five tiles, the second without its second and its last tile."""
    made = MadeAtlas(str(tmp_path))
    made.committer.commit([made.done("a"), made.done("b"), made.done("c")])
    made.writer.delete("tiles", "slide_id = 'b' AND x IN (32, 128)")
    return made


def version(made: MadeAtlas) -> TableVersion:
    return TableVersion(made.uri, "tiles", made.atlas.tiles)


def written(
    made: MadeAtlas, fragment: int, values: Callable[[pa.Table], dict[str, pa.Array]]
) -> ColumnFile:
    """A file for one fragment; `values` gives its columns for a batch of rows."""
    now = version(made)

    def batches() -> Iterator[pa.Table]:
        for rows in now.read(fragment, ["x"]):
            yield pa.table({**values(rows), "_rowaddr": rows["_rowaddr"]})

    names = list(values(next(iter(now.read(fragment, ["x"])))))
    return now.write(fragment, names, batches())


def ages(rows: pa.Table) -> dict[str, pa.Array]:
    return {"age": pa.array(rows["x"].to_numpy() + 1, pa.int64())}


def told(made: MadeAtlas, *columns: str, where: str | None = None) -> list[tuple[object, ...]]:
    rows = made.atlas.tiles.to_table(columns=list(columns), filter=where).to_pydict()
    return list(zip(*rows.values(), strict=True))


def test_each_row_gets_its_value_also_where_rows_before_it_are_deleted(made: MadeAtlas):
    replaced = replace_columns(made.writer, "tiles", [written(made, 1, ages)])

    assert replaced == {1}
    assert told(made, "x", "age", where="slide_id = 'b'") == [(0, 1), (64, 65), (96, 97)]
    assert {age for (age,) in told(made, "age", where="slide_id <> 'b'")} == {61}


def test_a_column_is_replaced_whether_it_shares_a_file_has_its_own_or_has_none(made: MadeAtlas):
    made.writer.transact("tiles", lambda tiles: tiles.add_columns(pa.schema([("grade", "int8")])))

    def both(rows: pa.Table) -> dict[str, pa.Array]:
        return ages(rows) | {"grade": pa.array([7] * len(rows), pa.int8())}

    def organ_and_grade(rows: pa.Table) -> dict[str, pa.Array]:
        return {"grade": pa.nulls(len(rows), pa.int8()), "organ": pa.array(["skin"] * len(rows))}

    for values in (ages, both, organ_and_grade):
        replace_columns(made.writer, "tiles", [written(made, 1, values)])

    where = "slide_id = 'b'"
    assert told(made, "age", "grade", "organ", where=where) == [
        (1, None, "skin"),
        (65, None, "skin"),
        (97, None, "skin"),
    ]


def test_vectors_of_a_new_column_may_be_null_and_lancedb_skips_those(made: MadeAtlas):
    other = vector_field(CARD).with_name("vector_other")
    made.writer.transact("tiles", lambda tiles: tiles.add_columns(pa.schema([other])))

    def first_only(rows: pa.Table) -> dict[str, pa.Array]:
        vectors = [[1.0] * 8] + [None] * (len(rows) - 1)
        return {"vector_other": pa.array(vectors, other.type)}

    replace_columns(made.writer, "tiles", [written(made, n, first_only) for n in (0, 2)])

    table = lancedb.connect(made.uri).open_table("tiles")
    hits = table.search([1.0] * 8, vector_column_name="vector_other").limit(100).to_arrow()
    assert sorted(hits["slide_id"].to_pylist()) == ["a", "c"]


def test_only_the_index_of_that_column_forgets_only_that_fragment(made: MadeAtlas):
    made.atlas.tiles.create_index(VECTOR, "IVF_FLAT", num_partitions=1, metric="cosine")
    for column in ("organ", "age"):
        made.atlas.tiles.create_scalar_index(column, "BITMAP")
    ids = told(made, "tile_id")

    replace_columns(made.writer, "tiles", [written(made, 1, ages)])

    covered = {i["fields"][0]: sorted(i["fragment_ids"]) for i in made.atlas.tiles.list_indices()}
    assert covered == {VECTOR: [0, 1, 2], "organ": [0, 1, 2], "age": [0, 2]}
    assert told(made, "tile_id") == ids
    assert made.atlas.tiles.count_rows("age = 65") == 1
    assert made.atlas.tiles.count_rows("age = 61") == 10


def test_a_fragment_that_was_compacted_away_keeps_its_values(made: MadeAtlas):
    files = [written(made, number, ages) for number in (1, 2)]
    made.committer.commit([made.done("d", tiles=2_000_000 // 100_000)])
    made.atlas.tiles.optimize.compact_files(target_rows_per_fragment=5)

    replaced = replace_columns(made.writer, "tiles", files)

    assert replaced < {1, 2}
    assert len(told(made, "age", where="age = 61 AND slide_id = 'b'")) == 3


def test_a_file_of_fewer_rows_than_its_fragment_is_filled_with_nulls(made: MadeAtlas):
    now = version(made)
    empty = now.write(1, ["age"], [])

    replace_columns(made.writer, "tiles", [empty])

    assert told(made, "age", where="slide_id = 'b'") == [(None,)] * 3


def test_nothing_to_replace_is_no_commit(made: MadeAtlas):
    before = made.atlas.tiles.version
    assert replace_columns(made.writer, "tiles", []) == frozenset()
    assert made.atlas.tiles.version == before


def test_a_store_that_refuses_says_so(made: MadeAtlas, tmp_path: Path):
    now, data = version(made), tmp_path / "tiles.lance" / "data"
    data.rename(tmp_path / "elsewhere")
    data.write_text("in the way")
    with pytest.raises(AtlasWriteFailed, match="the table tiles"):
        now.write(1, ["age"], [])


def test_files_are_of_the_version_that_their_table_was_made_with(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "STORAGE_VERSION", "2.2")  # as atlases were made before
    made = MadeAtlas(str(tmp_path))
    made.committer.commit([made.done("a")])

    replace_columns(made.writer, "tiles", [written(made, 0, ages)])

    assert told(made, "x", "age") == [(x, x + 1) for x in range(0, 160, 32)]
    (fragment,) = made.atlas.tiles.get_fragments()
    files = fragment.metadata.files
    versions = [(file.file_major_version, file.file_minor_version) for file in files]
    assert versions == [(2, 2), (2, 2)]
