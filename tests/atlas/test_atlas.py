"""Making and opening an atlas: what it remembers of itself, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from microtome.atlas import atlas as atlas_module
from microtome.atlas import schema
from microtome.atlas.atlas import Atlas
from microtome.atlas.runs import start_run
from microtome.atlas.writer import open_writer
from microtome.config import GridSettings
from microtome.errors import AtlasMismatch, AtlasNotFound, ModelMismatch, SettingError
from support.made_atlas import CARD, COLUMNS, GRID, MadeAtlas, content_id, open_or_create, state_of

OTHER_MODEL = replace(CARD, name="other", weights_sha256="11")


def test_an_atlas_tells_its_grid_models_and_columns(tmp_path: Path):
    open_or_create(str(tmp_path / "a"), GRID, CARD, COLUMNS)
    opened = Atlas.open(str(tmp_path / "a"))
    assert opened.grid == GRID
    assert opened.models == {CARD.model_id: CARD}
    assert [(c.name, c.type) for c in opened.columns] == [(c.name, c.type) for c in COLUMNS]


@pytest.mark.parametrize("table", schema.TABLES)
def test_tables_are_of_the_format_lancedb_reads_and_know_their_key(tmp_path: Path, table: str):
    open_or_create(str(tmp_path), GRID, CARD, COLUMNS)
    dataset = lance.dataset(tmp_path / f"{table}.lance")
    assert dataset.data_storage_version == "2.1"
    assert dataset.has_stable_row_ids
    key = dataset.schema.field(0)
    assert not key.nullable
    assert key.metadata.items() >= schema.PRIMARY_KEY.items()


def test_a_missing_atlas_is_not_found_and_not_made(tmp_path: Path):
    with pytest.raises(AtlasNotFound, match=r"no atlas lies at .*nowhere"):
        Atlas.open(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_opening_writes_nothing(tmp_path: Path):
    MadeAtlas(str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    Atlas.open(str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_opening_to_write_again_changes_nothing(tmp_path: Path):
    made = MadeAtlas(str(tmp_path))
    versions = {table: made.atlas.dataset(table).version for table in schema.TABLES}
    open_or_create(str(tmp_path), GRID, CARD, COLUMNS)
    assert {table: made.atlas.dataset(table).version for table in schema.TABLES} == versions


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"grid": GridSettings(0.25, 16, 16)}, AtlasMismatch, r"0\.5um-16px-16px, not 0\.25um"),
        ({"min_tissue": 0.25}, AtlasMismatch, "at least 0.5 tissue, not 0.25"),
        ({"card": OTHER_MODEL}, ModelMismatch, f"of made .{CARD.model_id}., not of other"),
        ({"card": replace(CARD, mpp=1.0)}, ModelMismatch, "made for 1 µm per pixel, .* has 0.5"),
        ({"columns": pa.schema([("age", pa.string())])}, AtlasMismatch, "'age'.* string.* int64"),
        ({"columns": pa.schema([("tissue", pa.string())])}, AtlasMismatch, "'tissue'"),
        ({"columns": pa.schema([("vector_x", pa.string())])}, AtlasMismatch, "'vector_x'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change, error, words):
    MadeAtlas(str(tmp_path))
    asked = {"grid": GRID, "card": CARD, "columns": COLUMNS} | change
    with (
        pytest.raises(error, match=words) as caught,
        open_writer(str(tmp_path), "test") as writer,
    ):
        Atlas.open_or_create(writer, **asked)
    assert caught.value.remedy


def test_a_model_for_the_grid_within_a_hundredth_fits(tmp_path: Path):
    card = replace(CARD, mpp=0.504)
    assert MadeAtlas(str(tmp_path), card=card).atlas.models[CARD.model_id].mpp == 0.504


def test_new_manifest_columns_are_null_for_earlier_slides(tmp_path: Path):
    made = MadeAtlas(str(tmp_path))
    made.committer.commit([made.done("a")])
    wider = open_or_create(str(tmp_path), GRID, CARD, pa.schema([("site", pa.string())]))
    assert wider.columns.names == ["organ", "age", "site"]
    assert wider.tiles.to_table(columns=["organ", "site"]).to_pylist()[0] == {
        "organ": "lung",
        "site": None,
    }
    assert wider.slides.to_table(columns=["site"]).to_pylist() == [{"site": None}]


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "FORMAT_VERSION", 3)
    open_or_create(str(tmp_path))
    monkeypatch.setattr(schema, "FORMAT_VERSION", 2)
    refused = pytest.raises(AtlasMismatch, match="has format 3, this program reads up to 2")
    with refused:
        Atlas.open(str(tmp_path))
    with refused, open_writer(str(tmp_path), "test"):
        pass


@pytest.fixture
def older(tmp_path: Path) -> str:
    """An atlas as format 1 had it: it says nothing of the least tissue, and knows no lease."""
    made = MadeAtlas(str(tmp_path / "older"))
    made.committer.commit([made.done("a")])
    start_run(made.writer, "index", {"min_tissue": 0.25}, CARD)
    facts = {"microtome:format_version": "1", "microtome:grid": json.dumps(asdict(GRID))}
    made.atlas.tiles.update_schema_metadata(facts, replace=True)
    del made
    shutil.rmtree(tmp_path / "older" / "_lease")
    return str(tmp_path / "older")


def test_an_older_format_is_read_as_it_is(older: str):
    atlas = Atlas.open(older)
    assert (atlas.format_version, atlas.min_tissue, atlas.grid) == (1, None, GRID)
    assert atlas.tiles.count_rows() == 5


def test_an_older_format_is_renewed_by_whoever_writes(older: str):
    with pytest.raises(AtlasMismatch, match=r"at least 0\.25 tissue, not 0\.5"):
        open_or_create(older)
    atlas = Atlas.open(older)
    assert (atlas.format_version, atlas.min_tissue, atlas.grid) == (2, 0.25, GRID)
    assert state_of(atlas) == {"a": (content_id("a"), 5, "done", 5)}


def test_tables_of_another_program_are_no_atlas(tmp_path: Path):
    lance.write_dataset(pa.table({"x": [1]}), tmp_path / "tiles.lance")
    with pytest.raises(AtlasMismatch, match="not made by Microtome"):
        Atlas.open(str(tmp_path))


@pytest.mark.parametrize("stop_before", ["runs", "work", "slides", "tiles"])
def test_a_creation_cut_short_is_no_atlas_and_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_before: str
):
    write = lance.write_dataset

    def stopping(data, uri, **options):
        if uri.endswith(f"{stop_before}.lance"):
            raise KeyboardInterrupt
        return write(data, uri, **options)

    with monkeypatch.context() as stopped:
        stopped.setattr(atlas_module.lance, "write_dataset", stopping)
        with pytest.raises(KeyboardInterrupt):
            open_or_create(str(tmp_path), GRID, CARD, COLUMNS)
    with pytest.raises(AtlasNotFound):
        Atlas.open(str(tmp_path))
    # The next run may bring another manifest.
    made = MadeAtlas(str(tmp_path), columns=pa.schema([("organ", pa.string())]))
    made.committer.commit([made.done("a")])
    assert made.atlas.slides.schema.names[-1] == "organ"


def test_columns_added_to_one_table_only_are_added_to_the_other_later(tmp_path: Path):
    made = MadeAtlas(str(tmp_path))
    site = pa.schema([("site", pa.string())])
    made.atlas.slides.add_columns(site)  # and then the process died
    open_or_create(str(tmp_path), GRID, CARD, site)
    assert made.atlas.tiles.schema.names[-1] == made.atlas.slides.schema.names[-1] == "site"


def test_a_lost_table_of_tiles_is_not_papered_over(tmp_path: Path):
    made = MadeAtlas(str(tmp_path))
    (tmp_path / "tiles.lance").rename(tmp_path / "elsewhere")
    with pytest.raises(AtlasMismatch, match="hold rows, but there is no table of tiles"):
        open_or_create(str(tmp_path), GRID, CARD, COLUMNS)
    assert made.atlas.runs.count_rows() == 1


def test_credentials_in_the_uri_are_refused_unshown():
    with pytest.raises(SettingError) as caught:
        Atlas.open("s3://AKIA:hunter2@bucket/atlas")
    assert "hunter2" not in str(caught.value)
