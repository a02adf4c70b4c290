"""The indexing job on a real Ray, from made slides to an atlas; see `test_index_again` for more."""

from __future__ import annotations

import pytest

from microtome.atlas.atlas import Atlas
from microtome.engine.index import run_index
from microtome.engine.run import IndexSummary
from microtome_jobs.made.slides import MadeArchive
from support.small_archive import causes, make_archive, settings_for

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> MadeArchive:
    return make_archive(tmp_path_factory.mktemp("slides"))


@pytest.fixture(scope="module")
def indexed(
    archive: MadeArchive, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None
) -> tuple[Atlas, IndexSummary]:
    settings = settings_for(archive, tmp_path_factory.mktemp("indexed") / "atlas")
    summary = run_index(settings)
    return Atlas.open(settings.atlas), summary


def test_every_slide_ends_as_it_should(
    archive: MadeArchive, indexed: tuple[Atlas, IndexSummary]
) -> None:
    assert causes(indexed[0]) == {
        **dict.fromkeys(archive.slide_ids, "done"),
        "blank": "empty",
        "truncated": "truncated",
        "no-mpp": "no-mpp",
    }


def test_the_summary_counts_what_the_atlas_holds(indexed: tuple[Atlas, IndexSummary]) -> None:
    atlas, summary = indexed

    assert (summary.done, summary.empty, summary.failed.total()) == (2, 1, 2)
    assert summary.tiles == atlas.tiles.count_rows() > 0
    assert summary.bytes_read > 0


def test_planned_tiles_are_stored_once_each(indexed: tuple[Atlas, IndexSummary]) -> None:
    atlas, _ = indexed
    planned = sum(atlas.work.to_table(columns=["planned_tiles"])["planned_tiles"].to_pylist())
    ids = atlas.tiles.to_table(columns=["tile_id"])["tile_id"].to_pylist()

    assert len(ids) == len(set(ids)) == planned


def test_the_run_is_written_down(indexed: tuple[Atlas, IndexSummary]) -> None:
    atlas, summary = indexed
    (run,) = atlas.runs.to_table().to_pylist()

    assert (run["run_id"], run["status"], run["tiles"]) == (
        summary.run_id,
        "finished",
        summary.tiles,
    )
    assert run["tiles_per_s"] == pytest.approx(summary.tiles_per_s)


def test_manifest_columns_stand_beside_every_tile(indexed: tuple[Atlas, IndexSummary]) -> None:
    rows = indexed[0].tiles.to_table(columns=["slide_id", "case_id", "site"]).to_pylist()

    assert {(row["slide_id"][:6], row["case_id"], row["site"]) for row in rows} == {
        ("case01", "case01", "north")
    }
