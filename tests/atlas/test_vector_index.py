from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microtome.atlas import derived, index_codes, index_files
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.index_building import refresh_index
from microtome.atlas.index_codes import CodePlan, Codes
from microtome.atlas.index_coding import CodingWork, Piece
from microtome.atlas.index_files import drop_index, newest_card
from microtome.atlas.indexing import refresh_indices
from microtome.atlas.vector_index import bits_of, open_index, stand
from microtome.atlas.writer import open_writer
from microtome.errors import AtlasDamaged, AtlasWriteFailed, LeaseLost
from support.clustered_atlas import Clusters, add_tiles, make_atlas

DIM, ROWS = 32, 2000
CLUSTERS = Clusters(DIM, clusters=20)


@pytest.fixture
def atlas(tmp_path):
    made = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(made, CLUSTERS.drawn(ROWS))
    return made


@pytest.fixture
def model_id(atlas):
    (model_id,) = atlas.models
    return model_id


def refreshed(atlas, model_id, **options):
    return refresh_index(atlas, model_id, least_rows=100, **options)


def standing_of(atlas, model_id):
    return stand(open_index(atlas, model_id), atlas.tiles)


def rows_of(bits) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist())


def ids_where(atlas, condition) -> set[int]:
    found = atlas.tiles.scanner(columns=[], filter=condition, with_row_id=True).to_table()
    return set(found["_rowid"].to_pylist())


def delete(atlas, condition):
    with open_writer(atlas.uri, "test") as writer:
        writer.delete("tiles", condition)


def test_an_index_codes_every_row(atlas, model_id):
    became = refreshed(atlas, model_id)
    assert (became.added, became.removed, became.trained) == (ROWS, 0, True)
    assert became.card == newest_card(atlas.uri, model_id)
    assert became.card.tiles_version == atlas.tiles.version
    standing = standing_of(atlas, model_id)
    assert rows_of(standing.coded) == ids_where(atlas, "true")
    assert (standing.open_fragments, standing.open_rows, standing.all_coded) == ((), 0, True)


def test_there_is_no_index_of_few_rows(atlas, model_id):
    refreshed(atlas, model_id)
    assert refresh_index(atlas, model_id, least_rows=ROWS + 1).card is None
    assert open_index(atlas, model_id) is None


def test_what_is_up_to_date_is_left_alone(atlas, model_id):
    first = refreshed(atlas, model_id).card
    again = refreshed(atlas, model_id)
    assert (again.card, again.added, again.trained) == (first, 0, False)


def test_new_rows_are_open_then_taken_in_without_training(atlas, model_id):
    refreshed(atlas, model_id)
    add_tiles(atlas, CLUSTERS.drawn(300, seed=5), first=ROWS)
    standing = standing_of(atlas, model_id)
    assert (len(standing.open_fragments), standing.open_rows) == (1, 300)
    became = refreshed(atlas, model_id)
    assert (became.added, became.trained, became.card.rows) == (300, False, ROWS + 300)
    assert rows_of(standing_of(atlas, model_id).coded) == ids_where(atlas, "true")


def test_an_index_that_was_outgrown_is_trained_anew(atlas, model_id):
    refreshed(atlas, model_id)
    add_tiles(atlas, CLUSTERS.drawn(4 * ROWS, seed=5), first=ROWS)
    became = refreshed(atlas, model_id)
    assert (became.trained, became.card.trained_rows) == (True, 5 * ROWS)


def test_rows_that_are_gone_are_passed_over_then_leave_the_files(atlas, model_id):
    refreshed(atlas, model_id)
    gone = ids_where(atlas, "slide_id = 'slide-000001'")
    delete(atlas, "slide_id = 'slide-000001'")
    standing = standing_of(atlas, model_id)
    assert not rows_of(standing.coded) & gone
    assert not standing.all_coded
    became = refreshed(atlas, model_id)
    assert (became.removed, became.card.rows) == (len(gone), ROWS - len(gone))
    assert not set(open_index(atlas, model_id).row_ids.tolist()) & gone
    assert len(list((index_folder(atlas) / model_id).iterdir())) == 1


def test_compaction_changes_nothing_for_the_index(atlas, model_id):
    add_tiles(atlas, CLUSTERS.drawn(300, seed=5), first=ROWS)
    refreshed(atlas, model_id)
    delete(atlas, "x < 50")
    atlas.tiles.optimize.compact_files()
    standing = standing_of(atlas, model_id)
    assert rows_of(standing.coded) == ids_where(atlas, "true")
    assert standing.open_rows == 0


def test_what_is_coded_already_is_not_coded_again(atlas, model_id):
    refreshed(atlas, model_id)
    add_tiles(atlas, CLUSTERS.drawn(300, seed=5), first=ROWS)
    atlas.tiles.optimize.compact_files()  # both lie in one fragment now
    became = refreshed(atlas, model_id)
    assert (became.added, became.trained) == (300, False)
    index = open_index(atlas, model_id)
    assert index.row_ids.tolist() == sorted(ids_where(atlas, "true"))


def test_rows_without_a_vector_are_known_until_they_get_one(atlas, model_id):
    schema = atlas.tiles.schema
    bare = [{"tile_id": f"bare-{i}", "slide_id": "bare"} for i in range(50)]
    with open_writer(atlas.uri, "test") as writer:
        writer.append("tiles", pa.Table.from_pylist(bare, schema=schema))
    refreshed(atlas, model_id)
    standing = standing_of(atlas, model_id)
    assert rows_of(standing.empty) == ids_where(atlas, "slide_id = 'bare'")
    assert standing.open_rows == 0


def test_an_older_version_never_sees_newer_rows(atlas, model_id):
    before = atlas.tiles.version
    there = ids_where(atlas, "true")
    add_tiles(atlas, CLUSTERS.drawn(300, seed=5), first=ROWS)
    refreshed(atlas, model_id)
    then = dataclasses.replace(atlas, pinned={"tiles": before})
    standing = standing_of(then, model_id)
    assert rows_of(standing.coded) == there
    assert (standing.open_rows, standing.all_coded) == (0, False)


def index_folder(atlas):
    return Path(atlas.uri) / index_files.FOLDER


def the_file(atlas, model_id, name):
    (path,) = (index_folder(atlas) / model_id).glob(f"*/{name}")
    return path


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("codes.faiss", lambda data: data[:-1], "damaged"),
        ("codes.faiss", lambda data: data[:500] + b"!" + data[501:], "damaged"),
        ("codes.faiss", None, "missing"),
        ("index.json", lambda data: data[:-1], "damaged"),
        ("index.json", lambda _: b"[]", "damaged"),
        ("index.json", lambda data: data.replace(b'"format": 1', b'"format": 2'), "format 2"),
    ],
)
def test_a_damaged_index_is_refused_and_built_anew(atlas, model_id, name, damage, told):
    refreshed(atlas, model_id)
    path = the_file(atlas, model_id, name)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IndexUnusable, match=told):
        open_index(atlas, model_id)
    assert refreshed(atlas, model_id).trained
    assert len(open_index(atlas, model_id).codes) == ROWS


def test_an_index_of_another_table_is_refused(atlas, model_id, tmp_path):
    other = make_atlas(str(tmp_path / "other"), DIM)
    add_tiles(other, CLUSTERS.drawn(ROWS), first=7)
    refreshed(other, model_id)
    index_folder(other).rename(index_folder(atlas))
    with pytest.raises(IndexUnusable, match="another table"):
        standing_of(atlas, model_id)


def test_a_store_that_refuses_leaves_the_index_before_it(atlas, model_id, monkeypatch):
    first = refreshed(atlas, model_id).card
    add_tiles(atlas, CLUSTERS.drawn(300, seed=5), first=ROWS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(derived.os, "replace", full)
    with pytest.raises(AtlasWriteFailed, match="disk is full"):
        refreshed(atlas, model_id)
    monkeypatch.undo()
    assert newest_card(atlas.uri, model_id) == first
    assert len(open_index(atlas, model_id).codes) == ROWS
    assert refreshed(atlas, model_id).card.rows == ROWS + 300
    assert [path.name for path in index_folder(atlas).iterdir()] == [model_id]


def test_who_lost_the_lease_meanwhile_publishes_nothing(atlas, model_id):
    def lost():
        raise LeaseLost("another job took over")

    with pytest.raises(LeaseLost):
        refreshed(atlas, model_id, may_publish=lost)
    assert open_index(atlas, model_id) is None


def test_maintenance_builds_and_extends_the_indices(atlas, model_id):
    def did() -> list[str]:
        with open_writer(atlas.uri, "test") as writer:
            return refresh_indices(writer, least_rows=100)

    name = f"the vector index of made ({model_id})"
    columns = "indices on tile_id, slide_id, case_id, site, half"
    assert did() == [columns, f"2,000 rows, trained anew, into {name}"]
    assert did() == []
    add_tiles(atlas, CLUSTERS.drawn(300, seed=5), first=ROWS)
    delete(atlas, "x < 10")
    assert did() == [f"300 rows into and 10 rows out of {name}"]


def test_a_dropped_index_leaves_no_file(atlas, model_id):
    refreshed(atlas, model_id)
    assert drop_index(atlas.uri, model_id) == 1
    assert not [path for path in index_folder(atlas).rglob("*") if path.is_file()]


def test_an_index_in_a_bucket(s3, model_id):
    atlas = make_atlas(f"{s3.bucket()}/atlas", DIM)
    add_tiles(atlas, CLUSTERS.drawn(500))
    refreshed(atlas, model_id)
    assert len(open_index(atlas, model_id).codes) == 500
    add_tiles(atlas, CLUSTERS.drawn(100, seed=5), first=500)
    assert refreshed(atlas, model_id).card.number == 2
    assert standing_of(atlas, model_id).coded_rows == 600
    assert drop_index(atlas.uri, model_id) == 1
    assert open_index(atlas, model_id) is None


@pytest.mark.parametrize(
    ("rows", "lists", "probes"),
    # rows^¾; 16 and one and a half times its root
    [(1, 1, 1), (20_000, 54, 28), (100_000, 182, 37), (10**6, 1024, 64), (10**9, 182_096, 657)],
)
def test_the_plan_grows_with_the_rows(rows, lists, probes):
    assert CodePlan.for_rows(rows) == CodePlan(lists, bits=2, probes=probes)


def test_codes_find_a_vector_among_the_allowed():
    vectors = CLUSTERS.drawn(500)
    codes = Codes.trained(CodePlan(4), vectors)
    codes.add(np.arange(500) * 3, vectors)
    assert (codes.search(vectors, 5, 4)[:, 0] == np.arange(500) * 3).mean() > 0.99
    allowed = bits_of(np.array([9, 30, 1497]))
    assert set(codes.search(vectors[:1], 5, 4, allowed)[0].tolist()) == {9, 30, 1497, -1}


def test_codes_taken_out_and_in_are_the_codes_of_one_go(monkeypatch):
    monkeypatch.setattr(index_codes, "THREADS", 1)  # more round a few last bits otherwise
    vectors, numbers = CLUSTERS.drawn(500), np.arange(500)
    whole = Codes.trained(CodePlan(4), vectors)
    whole.add(numbers, vectors)
    bare = whole.bare()
    merged = Codes.of_bare(bare)
    for some in (slice(0, 200), slice(200, 200), slice(200, 500)):
        one = Codes.of_bare(bare)
        one.add(numbers[some], vectors[some])
        merged.take_in(one.part())
    assert len(merged) == len(whole) == 500
    assert np.array_equal(merged.row_ids, whole.row_ids)
    assert np.array_equal(merged.part().codes, whole.part().codes)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (1, [[5], [9], [2], [1], [4]]),
        (5, [[5], [9], [2, 1], [4]]),
        (8, [[5], [9], [2, 1, 4]]),
        (14, [[5, 9], [2, 1, 4]]),
        (99, [[5, 9, 2, 1, 4]]),
    ],
)
def test_work_is_divided_between_fragments(rows, parts):
    none = np.empty(0, np.int64)
    pieces = tuple(Piece(number, size, none) for number, size in enumerate([5, 9, 2, 1, 4]))
    split = CodingWork("atlas", "atlas", 1, "model", pieces).split(rows)
    assert [[piece.rows for piece in one.pieces] for one in split] == parts
    assert [piece.fragment for one in split for piece in one.pieces] == [0, 1, 2, 3, 4]


def test_work_names_the_atlas_as_its_user_did(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atlas = make_atlas("here", DIM)
    work = CodingWork.of(atlas, atlas.tiles, *atlas.models)
    for manifest in Path("here/tiles.lance/_versions").iterdir():
        manifest.write_bytes(b"")
    with pytest.raises(AtlasDamaged, match=r"^the table tiles of here can't be read: one of its"):
        list(work.blocks())


def test_removed_codes_are_found_no_more_and_their_bytes_are_gone(tmp_path):
    vectors = CLUSTERS.drawn(500)
    codes = Codes.trained(CodePlan(4), vectors)
    codes.add(np.arange(500), vectors)
    codes.write(tmp_path / "before")
    codes.remove(np.arange(100, 500))
    assert sorted(codes.row_ids.tolist()) == list(range(100))
    assert codes.search(vectors[100:], 100, 4).max() < 100
    codes.write(tmp_path / "after")
    code_bytes = DIM * 2 // 8 + 28
    saved = (tmp_path / "before").stat().st_size - (tmp_path / "after").stat().st_size
    assert saved == 400 * code_bytes
