"""The tables as other programs see them: plain lancedb, DuckDB, pandas; and their documentation."""

from __future__ import annotations

from pathlib import Path

import duckdb
import lance
import lancedb
import pytest

from microtome.atlas import schema
from microtome.slides.manifest import RESERVED, RESERVED_PREFIXES
from support.made_atlas import CARD, MadeAtlas, vectors_of

README = Path(__file__).parents[2] / "platform" / "README.md"
VECTOR = schema.vector_column(CARD.model_id)


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    made = MadeAtlas(str(tmp_path))
    made.committer.commit([made.done("a", tiles=3), made.done("b", tiles=4), made.failed("f")])
    return made


def test_lancedb_searches_the_tiles(made: MadeAtlas):
    tiles = lancedb.connect(made.uri).open_table("tiles")
    query = vectors_of("a", 3)[1]
    found = tiles.search(query, vector_column_name=VECTOR).where("organ = 'lung'").limit(1)
    (hit,) = found.select(["slide_id", "x", "_distance"]).to_list()
    assert (hit["slide_id"], hit["x"]) == ("a", 32)


def test_lancedb_lists_the_four_tables(made: MadeAtlas):
    listed = lancedb.connect(made.uri).list_tables()
    assert sorted(listed.tables) == sorted(schema.TABLES)


def test_duckdb_counts_over_a_projected_scan(made: MadeAtlas):
    tiles = lance.dataset(f"{made.uri}/tiles.lance").scanner(columns=["slide_id", "organ"])
    reader = tiles.to_reader()
    counted = duckdb.sql("SELECT slide_id, count(*) FROM reader GROUP BY ALL ORDER BY ALL")
    assert counted.fetchall() == [("a", 3), ("b", 4)]
    del reader


def test_duckdb_joins_slides_with_the_ledger(made: MadeAtlas):
    slides = made.atlas.slides  # no float16 here: no projection needed
    work = made.atlas.work
    joined = duckdb.sql(
        "SELECT work.slide_id, status, cause, mpp FROM work LEFT JOIN slides USING (slide_id) "
        "ORDER BY 1"
    ).fetchall()
    assert joined == [
        ("a", "done", "", 0.25),
        ("b", "done", "", 0.25),
        ("f", "failed", "truncated", None),
    ]
    del slides, work


def test_pandas_reads_every_column(made: MadeAtlas):
    frame = made.atlas.tiles.to_table().to_pandas()
    assert frame.groupby("slide_id").size().to_dict() == {"a": 3, "b": 4}
    assert frame[VECTOR].iloc[0].dtype == "float16"


def test_each_column_says_what_it_is(made: MadeAtlas):
    for table in schema.TABLES:
        for field in made.atlas.dataset(table).schema:
            assert field.metadata[b"doc"], f"{table}.{field.name}"


@pytest.mark.parametrize("table", schema.TABLES)
def test_the_readme_lists_every_column_as_it_is(table: str):
    """One line per column: | `name` | type | meaning |, under the heading of its table."""
    section = README.read_text(encoding="utf-8").partition(f"### `{table}`")[2].partition("###")[0]
    listed = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): (kind.strip(), doc.strip()) for name, kind, doc in listed}
    told.pop("vector_<model id>", None)
    assert told == {
        field.name: (str(field.type), field.metadata[b"doc"].decode())
        for field in schema.TABLES[table]
    }


def test_no_manifest_can_take_a_column_of_the_atlas():
    assert {*schema.TILES.names, *schema.SLIDES.names} <= RESERVED
    assert schema.VECTOR_PREFIX in RESERVED_PREFIXES
