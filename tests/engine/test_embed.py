"""A further model on an atlas that is there: in one process, on real slides of known colours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microtome.atlas import columns
from microtome.atlas.annotate import annotate
from microtome.atlas.atlas import Atlas
from microtome.atlas.columns import TableVersion
from microtome.atlas.dropping import drop_model
from microtome.atlas.schema import vector_column
from microtome.atlas.staging_tables import staging_table
from microtome.atlas.tables import open_table
from microtome.atlas.verify import verify
from microtome.atlas.writer import Writer, open_writer
from microtome.errors import AtlasNotFound, AtlasWriteFailed, ModelMismatch
from microtome.slides.manifest import read_manifest
from support.bare_embed import FIRST, SECOND, bare_embed, index_quilts
from support.coloured_atlas import QUILTS, MeanColour
from support.object_store import ObjectStore

ONE, OTHER = vector_column(FIRST.card.model_id), vector_column(SECOND.card.model_id)


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    """Four slides of the first model, a fragment each."""
    return index_quilts(tmp_path)


def compact(uri: str) -> None:
    Atlas.open(uri).tiles.optimize.compact_files()


def vectors(uri: str, column: str) -> dict[str, list[float] | None]:
    """Vectors by tile id; a tile that is there twice fails."""
    rows = Atlas.open(uri).tiles.to_table(columns=["tile_id", column]).to_pydict()
    assert len(set(rows["tile_id"])) == len(rows["tile_id"])
    return dict(zip(rows["tile_id"], rows[column], strict=True))


def ledger(uri: str, encoder: MeanColour = SECOND) -> dict[str, str]:
    """Status or cause by slide id; two rows of one slide fail."""
    rows = Atlas.open(uri).work.to_table(filter=f"model_id = '{encoder.card.model_id}'").to_pylist()
    assert max(Counter(row["slide_id"] for row in rows).values(), default=1) == 1
    return {row["slide_id"]: row["cause"] or row["status"] for row in rows}


def slide(atlas: Atlas, name: str) -> Path:
    return Path(atlas.uri).parent / name


DONE = {f"{quilt.slide_id}.svs": "done" for quilt in QUILTS}


@pytest.mark.parametrize("compacted", [False, True])
def test_the_vectors_are_those_of_a_fresh_index_with_that_model(
    atlas: Atlas, tmp_path: Path, compacted: bool
):
    if compacted:
        compact(atlas.uri)
    (tmp_path / "fresh").mkdir()
    fresh = index_quilts(tmp_path / "fresh", SECOND)
    before = vectors(atlas.uri, ONE)

    summary = bare_embed(atlas.uri)

    assert vectors(atlas.uri, OTHER) == vectors(fresh.uri, OTHER)
    assert vectors(atlas.uri, ONE) == before
    assert ledger(atlas.uri) == DONE
    assert (summary.done, summary.tiles, summary.already_done) == (4, 18, 0)
    assert {run["status"] for run in Atlas.open(atlas.uri).runs.to_table().to_pylist()[1:]} == {
        "finished"
    }


def test_an_atlas_in_a_bucket_is_filled_corrected_and_rid_of_a_model_as_in_a_folder(
    s3: ObjectStore, tmp_path: Path
):
    uri = f"{s3.bucket()}/atlas"
    atlas = index_quilts(tmp_path, uri=uri)
    compact(uri)
    (tmp_path / "manifest.csv").write_text("slide_id,organ\na.svs,bone\n")

    bare_embed(uri)
    with open_writer(uri, "test") as writer:
        annotate(writer, read_manifest(str(tmp_path / "manifest.csv")))

    assert vectors(uri, OTHER) == vectors(uri, ONE)
    assert atlas.tiles.count_rows("organ = 'bone'") == 6
    assert verify(uri, vectors=True).broken == ()
    assert open_table(uri, staging_table(SECOND.card.model_id)) is None

    with open_writer(uri, "test") as writer:
        drop_model(writer, "first")
    assert list(Atlas.open(uri).models) == [SECOND.card.model_id]


def test_the_ledger_tells_of_each_model_and_the_card_is_kept(atlas: Atlas):
    bare_embed(atlas.uri)

    assert ledger(atlas.uri, FIRST) == ledger(atlas.uri, SECOND) == DONE
    assert Atlas.open(atlas.uri).models[SECOND.card.model_id] == SECOND.card


def test_other_models_indices_still_cover_every_row(atlas: Atlas):
    atlas.tiles.create_index(ONE, "IVF_FLAT", num_partitions=1, metric="cosine")

    bare_embed(atlas.uri)

    (index,) = atlas.tiles.describe_indices()
    assert index.num_rows_indexed == atlas.tiles.count_rows() == 18


def test_a_complete_model_has_nothing_to_do(atlas: Atlas):
    bare_embed(atlas.uri)
    versions = {table: atlas.dataset(table).version for table in ("tiles", "work", "runs")}

    again = bare_embed(atlas.uri)

    assert (again.run_id, again.already_done, again.done) == ("", 4, 0)
    assert versions == {table: atlas.dataset(table).version for table in versions}


def test_a_slide_that_cannot_be_read_leaves_nulls_and_only_it_is_tried_again(atlas: Atlas):
    compact(atlas.uri)
    gone = slide(atlas, "b.svs").rename(slide(atlas, "away"))

    first = bare_embed(atlas.uri)

    assert first.failed == {"unreadable": 1}
    assert ledger(atlas.uri) == DONE | {"b.svs": "unreadable"}
    nulls = Atlas.open(atlas.uri).tiles.to_table(columns=["slide_id"], filter=f"{OTHER} IS NULL")
    assert nulls["slide_id"].to_pylist() == ["b.svs"] * 4

    gone.rename(slide(atlas, "b.svs"))
    encoder = MeanColour("second")
    again = bare_embed(atlas.uri, encoder)

    assert (again.done, again.already_done, sum(n for n, *_ in encoder.seen)) == (1, 3, 4)
    assert ledger(atlas.uri) == DONE
    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)


def test_a_slide_whose_bytes_changed_since_is_not_embedded(atlas: Atlas):
    path = slide(atlas, "c.svs")
    path.write_bytes(path.read_bytes() + b"\0")

    bare_embed(atlas.uri)

    assert ledger(atlas.uri)["c.svs"] == "changed"
    (row,) = atlas.work.to_table(filter="status = 'failed'").to_pylist()
    assert "`microtome index`" in row["message"]


def test_deleted_tiles_stay_deleted(atlas: Atlas):
    compact(atlas.uri)
    with open_writer(atlas.uri, "test") as writer:
        writer.delete("tiles", "slide_id = 'b.svs'")
        writer.delete("work", "slide_id = 'b.svs'")
        writer.delete("slides", "slide_id = 'b.svs'")

    bare_embed(atlas.uri)

    assert ledger(atlas.uri).keys() == {"a.svs", "c.svs", "d.svs"}
    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)
    assert len(vectors(atlas.uri, ONE)) == 14


def test_fragments_that_are_compacted_away_meanwhile_are_filled_all_the_same(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
):
    write, encoder = TableVersion.write, MeanColour("second")

    def after_a_compaction(self: TableVersion, *arguments: Any) -> Any:
        written = write(self, *arguments)
        monkeypatch.setattr(TableVersion, "write", write)
        compact(atlas.uri)
        return written

    monkeypatch.setattr(TableVersion, "write", after_a_compaction)

    summary = bare_embed(atlas.uri, encoder)

    assert ledger(atlas.uri) == DONE
    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)
    assert sum(count for count, *_ in encoder.seen) == summary.tiles == 18


def test_a_slide_indexed_later_lacks_the_other_model_until_it_is_embedded(atlas: Atlas):
    bare_embed(atlas.uri)
    folder = Path(atlas.uri).parent
    index_quilts(folder, SECOND, (QUILTS[0].__class__("e", (("pink", "pink"),)),))

    assert sum(vector is None for vector in vectors(atlas.uri, ONE).values()) == 2
    assert ledger(atlas.uri, FIRST) == DONE
    bare_embed(atlas.uri, FIRST)

    assert ledger(atlas.uri, FIRST) == DONE | {"e.svs": "done"}
    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)


def test_a_model_for_another_mpp_is_refused_before_anything_is_written(atlas: Atlas):
    with pytest.raises(ModelMismatch, match="2 µm per pixel"):
        bare_embed(atlas.uri, MeanColour("coarse", mpp=2.0))
    assert atlas.tiles.schema.names == Atlas.open(atlas.uri).tiles.schema.names


def test_no_atlas_is_made_for_a_model(tmp_path: Path):
    with pytest.raises(AtlasNotFound):
        bare_embed(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_a_slide_whose_vectors_are_not_finite_fails_and_can_be_tried_again(atlas: Atlas):
    class Broken(MeanColour):
        def encode(self, pixels: np.ndarray) -> np.ndarray:
            right = super().encode(pixels)
            return right if len(self.seen) <= 4 else right * np.nan  # the fifth batch is d's

    bare_embed(atlas.uri, Broken("second"))
    assert ledger(atlas.uri) == DONE | {"d.svs": "model"}
    bare_embed(atlas.uri)

    assert ledger(atlas.uri) == DONE
    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)


def test_a_refused_write_ends_the_job_and_the_next_goes_on(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
):
    commit, seen = Writer.commit, []

    def refusing(self: Writer, table: str, *arguments: Any) -> None:
        seen.append(table)
        if seen.count("tiles") == 2:
            raise AtlasWriteFailed("the disk is full")
        commit(self, table, *arguments)

    monkeypatch.setattr(Writer, "commit", refusing)
    with pytest.raises(AtlasWriteFailed, match="full"):
        bare_embed(atlas.uri)
    monkeypatch.undo()
    assert [run["status"] for run in atlas.runs.to_table().to_pylist()][-1] == "failed"
    encoder = MeanColour("second")
    bare_embed(atlas.uri, encoder)

    assert encoder.seen == []  # all vectors had been kept
    assert ledger(atlas.uri) == DONE
    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)


def test_a_wide_fragment_is_filled_batch_by_batch(atlas: Atlas, monkeypatch: pytest.MonkeyPatch):
    compact(atlas.uri)
    monkeypatch.setattr(columns, "BATCH_ROWS", 4)

    bare_embed(atlas.uri)

    assert vectors(atlas.uri, OTHER) == vectors(atlas.uri, ONE)
