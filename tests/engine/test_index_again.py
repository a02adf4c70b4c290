"""What a further indexing job makes of its atlas, and of slides that came, went or changed.

With a plain loop in the place of Ray, which all of it is the same with.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.backfill_plan import add_vector_column
from microtome.atlas.forgetting import Subject, forget
from microtome.atlas.reading import list_slides
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.writer import open_writer
from microtome.config import GridSettings, MppSettings
from microtome.errors import AtlasMismatch, AtlasWriteFailed, ModelMismatch, SourceNotFound
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import load_card
from microtome_jobs.made.slides import MadeArchive, MadeSpec, make_slides
from support.bare_index import index_here
from support.small_archive import causes, make_archive, settings_for


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> MadeArchive:
    return make_archive(tmp_path_factory.mktemp("slides"))


@pytest.fixture(scope="module")
def indexed(archive: MadeArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    atlas = tmp_path_factory.mktemp("indexed") / "atlas"
    index_here(settings_for(archive, atlas))
    return atlas


@pytest.fixture
def copy_of(indexed: Path, tmp_path: Path) -> Path:
    """A copy of the indexed atlas that a test may change."""
    return Path(shutil.copytree(indexed, tmp_path / "atlas"))


def tile_ids(atlas: Path) -> dict[str, str]:
    """Slide id by tile id."""
    rows = Atlas.open(str(atlas)).tiles.to_table(columns=["tile_id", "slide_id"])
    return dict(zip(*rows.to_pydict().values(), strict=True))


def test_a_forgotten_slide_is_refused_and_not_named_again(
    archive: MadeArchive, copy_of: Path
) -> None:
    slide_id = archive.slide_ids[0]
    with open_writer(str(copy_of), "forget") as writer:
        forget(writer, Subject(slide_id))
    path = next(path for path in archive.folder.iterdir() if path.name.startswith(slide_id))
    settings = settings_for(archive, copy_of)
    telling = (str(path), f"{archive.folder}/{slide_id[:4]}*", *settings.sources)
    other = archive.folder / "no-mpp.svs"
    summary = index_here(replace(settings, sources=(*telling, str(other)), retry_failed=("all",)))
    assert summary.failed["slide-forgotten"] == 1
    assert slide_id not in causes(Atlas.open(str(copy_of)))
    (row,) = (
        Atlas.open(str(copy_of)).runs.to_table(filter=f"run_id = '{summary.run_id}'").to_pylist()
    )
    assert json.loads(row["settings"])["sources"] == [str(other)]


def test_a_second_run_only_tries_what_may_fare_better(archive: MadeArchive, copy_of: Path) -> None:
    before = Atlas.open(str(copy_of)).tiles.version

    again = index_here(settings_for(archive, copy_of))

    assert (again.already_done, again.done) == (3, 0)
    assert again.failed == {"truncated": 1, "no-mpp": 1}
    assert (again.left_alone, attempts(copy_of)) == (1, {"truncated": 1, "no-mpp": 2})
    assert Atlas.open(str(copy_of)).tiles.version == before


def test_broken_slides_are_tried_again_where_asked(archive: MadeArchive, copy_of: Path) -> None:
    settings = replace(settings_for(archive, copy_of), retry_failed=("truncated",))

    again = index_here(settings)

    assert (again.failed, again.left_alone) == ({"truncated": 1, "no-mpp": 1}, 0)
    assert attempts(copy_of) == {"truncated": 2, "no-mpp": 2}


def attempts(atlas: Path) -> dict[str, int]:
    """How often the slides that failed were tried."""
    failed = list_slides(Atlas.open(str(atlas)), "failed")
    return {row["slide_id"]: row["attempts"] for row in failed}


def test_allowing_an_assumed_mpp_brings_the_slide_in(archive: MadeArchive, copy_of: Path) -> None:
    settings = replace(settings_for(archive, copy_of), mpp=MppSettings(assume_mpp=0.5))

    again = index_here(settings)

    assert (again.done, dict(again.failed)) == (1, {"truncated": 1})
    assert causes(Atlas.open(str(copy_of)))["no-mpp"] == "done"


def test_a_touched_slide_is_looked_at_and_left_alone(archive: MadeArchive, copy_of: Path) -> None:
    os.utime(archive.folder / "case01-a.svs")

    again = index_here(settings_for(archive, copy_of))

    assert (again.unchanged, again.done) == (1, 0)


@pytest.fixture
def other(tmp_path: Path) -> MadeArchive:
    """An archive whose one slide has the name, but not the bytes, of one that is indexed."""
    return make_slides(tmp_path / "slides", MadeSpec(seed=1, slides=1, side_px=2048, bad=False))


@pytest.fixture
def rescanned(archive: MadeArchive, other: MadeArchive, tmp_path: Path) -> Iterator[MadeArchive]:
    """The archive while the other's slide lies in the place of its own."""
    place = archive.folder / "case01-a.svs"
    own = shutil.move(place, tmp_path / "own.svs")
    shutil.copy(other.folder / place.name, place)
    yield archive
    shutil.move(own, place)


def test_a_changed_slide_replaces_its_old_tiles(rescanned: MadeArchive, copy_of: Path) -> None:
    before = set(tile_ids(copy_of))

    again = index_here(settings_for(rescanned, copy_of))

    now = {tile_id for tile_id, slide in tile_ids(copy_of).items() if slide == "case01-a"}
    assert again.done == 1
    assert len(now) == again.tiles
    assert not now & before


@pytest.fixture
def renamed(archive: MadeArchive) -> Iterator[MadeArchive]:
    """The archive while one of its slides goes by another name."""
    old, new = archive.folder / "case01-a.svs", archive.folder / "moved.svs"
    old.rename(new)
    yield archive
    new.rename(old)


def test_a_renamed_slide_is_known_by_its_bytes(renamed: MadeArchive, copy_of: Path) -> None:
    before = tile_ids(copy_of)

    settings = replace(settings_for(renamed, copy_of), manifest=None)
    again = index_here(settings)

    ids = {"case01-a": "moved.svs", "case01-b": "case01-b.svs"}
    assert (again.done, again.unchanged, again.tiles) == (0, 3, 0)
    assert tile_ids(copy_of) == {tile: ids.get(slide, slide) for tile, slide in before.items()}


def test_neither_a_copy_nor_a_namesake_pushes_a_slide_out(
    archive: MadeArchive, other: MadeArchive, copy_of: Path
) -> None:
    shutil.copy(archive.folder / "case01-b.svs", other.folder / "copy.svs")
    before = tile_ids(copy_of)

    index_here(settings_for(other, copy_of))

    failed = {row["slide_id"]: row["cause"] for row in list_slides(Atlas.open(str(copy_of)))}
    assert failed["case01-a"] == "duplicate-slide-id"
    assert failed["copy.svs"] == "duplicate-content"
    assert tile_ids(copy_of) == before


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"grid": GridSettings(mpp=0.5)}, AtlasMismatch, "0.5um-224px"),
        ({"model": "timm:resnet18@random:0"}, ModelMismatch, "tissue"),
        ({"sources": ("nowhere",)}, SourceNotFound, "nowhere"),
    ],
)
def test_a_wrong_setting_fails_before_any_work(
    archive: MadeArchive,
    copy_of: Path,
    change: dict[str, object],
    error: type[Exception],
    names: str,
) -> None:
    runs = Atlas.open(str(copy_of)).runs.count_rows()

    with pytest.raises(error, match=names):
        index_here(replace(settings_for(archive, copy_of), **change))

    assert Atlas.open(str(copy_of)).runs.count_rows() == runs


def test_a_model_whose_adding_is_being_rolled_back_is_refused(
    archive: MadeArchive, copy_of: Path
) -> None:
    settings = replace(settings_for(archive, copy_of), model="timm:resnet18@random:0")
    card = load_card(settings.model, EncoderOptions())
    with open_writer(str(copy_of), "embed") as writer:
        run_id = start_run(writer, "embed", {}, card)
        add_vector_column(writer, card)
        finish_run(writer, run_id, "finished", RunTotals())
        start_run(writer, "rollback", {"run": run_id})  # and was killed

    with pytest.raises(ModelMismatch, match="tissue"):
        index_here(settings)


def test_a_full_disk_ends_the_job_with_its_reason(archive: MadeArchive, tiny_disk: Path) -> None:
    with pytest.raises(AtlasWriteFailed, match="disk is full"):
        index_here(settings_for(archive, tiny_disk / "atlas"))
