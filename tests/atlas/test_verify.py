"""What breaks a promise is found, named, and mended as far as the atlas itself knows better."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.fragment import LanceFragment

from microtome.atlas import census
from microtome.atlas.atlas import Atlas
from microtome.atlas.checks import CHECKS, VECTORS
from microtome.atlas.damage import find_damaged
from microtome.atlas.forgetting import Subject, forget
from microtome.atlas.index_building import refresh_index
from microtome.atlas.index_codes import CodePlan
from microtome.atlas.ledger import Ledger
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.repair import _drop_damaged, repair
from microtome.atlas.runs import RunTotals, finish_run
from microtome.atlas.schema import vector_column
from microtome.atlas.verify import Report, verify
from microtome.atlas.writer import Writer
from microtome.errors import AtlasError, AtlasNotFound
from support.cut_short import killed_after
from support.made_atlas import CARD, MadeAtlas, content_id, ref_of

SLIDES = {"a": 5, "b": 7, "c": 4, "it's": 3}
VECTOR = vector_column(CARD.model_id)


def fill(made: MadeAtlas) -> None:
    """What is pending of four slides with tissue, one without and one that fails."""
    pending = Ledger(made.atlas, CARD.model_id).pending([ref_of(name) for name in [*SLIDES, "e"]])
    outcomes: list[SlideOutcome] = [
        made.empty("e")
        if ref.slide_id == "e"
        else made.done(ref.slide_id, tiles=SLIDES[ref.slide_id])
        for ref in pending
    ]
    made.committer.commit([*outcomes, made.failed("f")])


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    made = MadeAtlas(str(tmp_path / "atlas"))
    fill(made)
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    return made


def looked(made: MadeAtlas, **how: bool) -> Report:
    return verify(made.uri, ours=True, **how)


def found(report: Report) -> set[tuple[str, str]]:
    return {(finding.check, finding.subject) for finding in report.findings}


@pytest.mark.parametrize("vectors", [False, True])
def test_a_sound_atlas_holds(made: MadeAtlas, vectors: bool):
    before = {
        table: made.atlas.dataset(table).version for table in ("tiles", "slides", "work", "runs")
    }
    report = looked(made, vectors=vectors)
    assert report.holds
    assert report.findings == ()
    rows = {check.name: check.rows for check in report.checks}
    assert (rows["counts"], rows["slides"], rows["ledger"]) == (19, 5, 6)
    assert ("vectors" in rows) == vectors
    after = {table: made.atlas.dataset(table).version for table in before}
    assert after == before, "verify wrote something"


def test_an_atlas_without_slides_holds(tmp_path: Path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    assert looked(made, vectors=True).holds


def a_tile(made: MadeAtlas, slide_id: str, number: int = 0) -> pa.Table:
    tiles = made.atlas.tiles.to_table(filter=f"slide_id = '{slide_id}'")
    return tiles.slice(number, 1)


def changed(row: pa.Table, column: str, value: object) -> pa.Table:
    place = row.schema.get_field_index(column)
    return row.set_column(
        place, row.schema.field(place), pa.array([value], row.schema.types[place])
    )


def lost_tile(made: MadeAtlas, writer: Writer) -> None:
    tile_id = a_tile(made, "b")["tile_id"][0].as_py()
    writer.delete("tiles", f"tile_id = '{tile_id}'")


def lost_tiles(made: MadeAtlas, writer: Writer) -> None:
    writer.delete("tiles", "slide_id = 'b'")


def twice(made: MadeAtlas, writer: Writer) -> None:
    writer.append("tiles", a_tile(made, "it's".replace("'", "''"), 1))


def stranger(made: MadeAtlas, writer: Writer) -> None:
    row = changed(a_tile(made, "a"), "slide_id", "who's that")
    writer.append("tiles", changed(row, "tile_id", "0" * 32))


def nobodys(made: MadeAtlas, writer: Writer) -> None:
    row = changed(a_tile(made, "a"), "slide_id", None)
    writer.append("tiles", changed(row, "tile_id", "0" * 32))


def moved_tile(made: MadeAtlas, writer: Writer) -> None:
    first = a_tile(made, "c")["tile_id"][0].as_py()
    writer.update("tiles", {"x": "x + 1"}, f"tile_id = '{first}'")


def short_id(made: MadeAtlas, writer: Writer) -> None:
    first = a_tile(made, "c")["tile_id"][0].as_py()
    writer.update("tiles", {"tile_id": "'x'"}, f"tile_id = '{first}'")


def other_bytes(_: MadeAtlas, writer: Writer) -> None:
    writer.update("slides", {"content_id": f"'{content_id('other')}'"}, "slide_id = 'a'")
    writer.update("work", {"content_id": f"'{content_id('other')}'"}, "slide_id = 'a'")


def other_organ(_: MadeAtlas, writer: Writer) -> None:
    writer.update("tiles", {"organ": "'liver'"}, "slide_id = 'a' AND x > 32")


def no_age(_: MadeAtlas, writer: Writer) -> None:
    writer.update("slides", {"age": "CAST(NULL AS bigint)", "organ": "'it''s'"}, "slide_id = 'a'")


def no_facts(_: MadeAtlas, writer: Writer) -> None:
    writer.delete("slides", "slide_id = 'a'")


def other_count(_: MadeAtlas, writer: Writer) -> None:
    writer.update("slides", {"tiles": "9"}, "slide_id = 'a'")


def planned_more(_: MadeAtlas, writer: Writer) -> None:
    writer.update("work", {"planned_tiles": "6"}, "slide_id = 'a'")


def not_empty(_: MadeAtlas, writer: Writer) -> None:
    writer.update("work", {"status": "'empty'"}, "slide_id = 'a'")


def twice_in_slides(made: MadeAtlas, writer: Writer) -> None:
    writer.append("slides", made.atlas.slides.to_table(filter="slide_id = 'a'"))


def twice_in_the_ledger(made: MadeAtlas, writer: Writer) -> None:
    writer.append("work", made.atlas.work.to_table(filter="slide_id = 'a'"))


def unsettled(_: MadeAtlas, writer: Writer) -> None:
    writer.delete("work", "slide_id = 'a'")


def half_a_wave(_: MadeAtlas, writer: Writer) -> None:
    writer.delete("work", "slide_id = 'a'")
    writer.delete("tiles", "slide_id = 'a'")


def unknown_model(_: MadeAtlas, writer: Writer) -> None:
    writer.update("work", {"model_id": "'nobody'"}, "slide_id = 'a'")


FAULTS = [  # damage, what is found, whether all slides are there after the repair alone
    (lost_tile, {("counts", "b")}, False),
    (lost_tiles, {("counts", "b")}, False),
    (twice, {("once", "it's"), ("counts", "it's")}, True),
    (stranger, {("owners", "who's that")}, True),
    (nobodys, {("owners", "")}, True),
    (moved_tile, {("tile-ids", "c")}, False),
    (short_id, {("tile-ids", "c")}, False),
    (other_bytes, {("tile-ids", "a")}, False),
    (other_organ, {("columns", "a")}, True),
    (no_age, {("columns", "a")}, True),
    (no_facts, {("ledger", "a"), ("owners", "a")}, False),
    (other_count, {("counts", "a")}, False),
    (planned_more, {("counts", "a")}, False),
    (not_empty, {("counts", "a")}, False),
    (twice_in_slides, {("slides", "a")}, False),
    (twice_in_the_ledger, {("ledger", "a")}, False),
    (unsettled, {("waves", "a")}, True),
    (half_a_wave, {("waves", "a")}, False),
    (unknown_model, {("models", "a")}, True),
]


@pytest.mark.parametrize(
    ("damage", "expected", "whole"), FAULTS, ids=[damage.__name__ for damage, _, _ in FAULTS]
)
def test_a_fault_is_found_and_mended(
    made: MadeAtlas,
    damage: Callable[[MadeAtlas, Writer], None],
    expected: set[tuple[str, str]],
    whole: bool,
):
    sound = made.state()
    damage(made, made.writer)
    report = looked(made)
    assert found(report) == expected
    assert not report.holds

    repaired = repair(made.writer)
    assert repaired.actions
    assert repaired.after.holds, repaired.after.broken
    assert (made.state().keys() == sound.keys()) == whole
    fill(made)
    assert made.state() == sound
    assert looked(made, vectors=True).holds


@pytest.mark.parametrize("damage", [lost_tile, no_facts, twice], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("commits", range(2, 8))
def test_a_repair_killed_between_two_commits_is_gone_on_with(
    made: MadeAtlas, damage: Callable[[MadeAtlas, Writer], None], commits: int
):
    sound = made.state()
    damage(made, made.writer)
    with killed_after(commits):
        repair(made.writer)
    assert repair(made.writer).after.holds
    fill(made)
    assert made.state() == sound


def with_vectors(made: MadeAtlas, slide_id: str, spoil: Callable[[np.ndarray], None]) -> None:
    """Write one slide's tiles anew with other vectors."""
    rows = made.atlas.tiles.to_table(filter=f"slide_id = '{slide_id}'")
    vectors = np.stack([np.array(vector) for vector in rows[VECTOR].to_pylist()])
    spoil(vectors)
    place = rows.schema.get_field_index(VECTOR)
    flat = pa.array(vectors.reshape(-1).astype(np.float16))
    spoiled = pa.FixedSizeListArray.from_arrays(flat, CARD.dim)
    rows = rows.set_column(place, rows.schema.field(place), spoiled)
    made.writer.delete("tiles", f"slide_id = '{slide_id}'")
    made.writer.append("tiles", rows)


def not_a_number(vectors: np.ndarray) -> None:
    vectors[1, 3] = np.nan


def infinite(vectors: np.ndarray) -> None:
    vectors[0, 0] = np.inf


def too_long(vectors: np.ndarray) -> None:
    vectors[2] *= 1.01


def nothing_in_it(vectors: np.ndarray) -> None:
    vectors[:] = 0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (not_a_number, "1 vectors of the model {} aren't finite"),
        (infinite, "1 vectors of the model {} aren't finite"),
        (too_long, "1 vectors of the model {} aren't of unit length"),
        (nothing_in_it, "7 vectors of the model {} aren't of unit length"),
    ],
)
def test_vectors_are_looked_at_where_asked(
    made: MadeAtlas, spoil: Callable[[np.ndarray], None], told: str
):
    sound = made.state()
    with_vectors(made, "b", spoil)
    assert looked(made).holds
    (finding,) = looked(made, vectors=True).findings
    assert (finding.check, finding.subject) == ("vectors", "b")
    assert finding.message == told.format(CARD.model_id)
    assert repair(made.writer, vectors=True).after.holds
    fill(made)
    assert made.state() == sound


def test_the_rounding_of_float16_is_no_fault(made: MadeAtlas):
    with_vectors(made, "b", lambda vectors: None)
    assert looked(made, vectors=True).holds


def test_missing_vectors_are_found_where_the_ledger_says_done(made: MadeAtlas):
    rows = made.atlas.tiles.to_table(filter="slide_id = 'b'")
    place = rows.schema.get_field_index(VECTOR)
    kind = rows.schema.types[place]
    nulls = pa.array([*rows[VECTOR].to_pylist()[1:], None], kind)
    made.writer.delete("tiles", "slide_id = 'b'")
    made.writer.append("tiles", rows.set_column(place, rows.schema.field(place), nulls))
    (finding,) = looked(made, vectors=True).findings
    assert (finding.check, finding.subject) == ("coverage", "b")
    assert finding.message == f"done for the model {CARD.model_id}, but 1 tiles have no vector"


def test_a_column_that_was_never_filled_is_found_without_reading_vectors(made: MadeAtlas):
    rows = made.atlas.tiles.to_table(filter="slide_id = 'b'").drop_columns([VECTOR])
    made.writer.delete("tiles", "slide_id = 'b'")
    made.writer.append("tiles", rows)
    report = looked(made)
    assert found(report) == {("coverage", "b")}
    assert "some tiles have no vector" in report.findings[0].message


TRUNCATED, GARBLED, GONE = (
    lambda data: data[: len(data) // 2],
    lambda data: os.urandom(len(data)),
    lambda data: None,
)


@pytest.mark.parametrize("spoil", [TRUNCATED, GARBLED, GONE], ids=["truncated", "garbled", "gone"])
@pytest.mark.parametrize("vectors", [False, True])
def test_a_damaged_file_costs_its_slides_and_nothing_else(
    made: MadeAtlas, spoil: Callable[[bytes], bytes | None], vectors: bool
):
    sound = made.state()
    name = made.atlas.tiles.get_fragments()[1].metadata.files[0].path
    file = Path(made.uri) / "tiles.lance" / "data" / name
    data = spoil(file.read_bytes())
    file.unlink()
    if data is not None:
        file.write_bytes(data)

    report = looked(made, vectors=vectors)
    assert ("files", f"data/{name}") in found(report)
    assert made.uri.lstrip("/") not in report.findings[0].message.replace(made.uri, "")
    assert repair(made.writer, vectors=vectors).after.holds
    assert len(made.state().keys() & SLIDES.keys()) == 3
    fill(made)
    assert made.state() == sound
    assert looked(made, vectors=True).holds


def stumbling(monkeypatch: pytest.MonkeyPatch, says: str, times: int) -> None:
    """Have every scan of a fragment fail that many times."""
    scanner, left = LanceFragment.scanner, [times]

    def scan(fragment: LanceFragment, *arguments: Any, **named: Any) -> lance.LanceScanner:
        if left[0]:
            left[0] -= 1
            raise OSError(f"LanceError(IO): {says}")
        return scanner(fragment, *arguments, **named)

    monkeypatch.setattr(LanceFragment, "scanner", scan)


def test_a_store_that_stumbles_is_asked_again(made: MadeAtlas, monkeypatch: pytest.MonkeyPatch):
    stumbling(monkeypatch, "error sending request for url: connection reset", times=2)
    tiles = made.atlas.tiles
    assert find_damaged(tiles, tiles.schema.names, made.uri) == []


def test_a_store_that_refuses_has_damaged_nothing(made: MadeAtlas, monkeypatch: pytest.MonkeyPatch):
    stumbling(monkeypatch, "response error: 403 Forbidden", times=1)
    tiles = made.atlas.tiles
    with pytest.raises(AtlasError, match="the store refused the credentials"):
        find_damaged(tiles, tiles.schema.names, made.uri)


def test_what_a_second_look_finds_sound_is_kept(made: MadeAtlas, monkeypatch: pytest.MonkeyPatch):
    sound = made.state()
    stumbling(monkeypatch, "failed to decode", times=1)
    assert list(_drop_damaged(made.writer, [])) == []
    assert made.state() == sound


def test_slides_that_cannot_be_read_are_said_so(made: MadeAtlas):
    for file in (Path(made.uri) / "slides.lance" / "data").iterdir():
        file.write_bytes(b"")
    with pytest.raises(AtlasError, match="can't be read"):
        looked(made)


def test_rows_that_came_after_an_index_are_no_fault(made: MadeAtlas):
    made.writer.transact("tiles", lambda tiles: tiles.create_scalar_index("slide_id", "BTREE"))
    made.committer.commit([made.done("new")])
    made.writer.delete("tiles", "slide_id = 'new'")
    made.writer.delete("slides", "slide_id = 'new'")
    made.writer.delete("work", "slide_id = 'new'")
    made.committer.commit([made.done("new", tiles=2)])
    assert looked(made).findings == ()


def compact_index(made: MadeAtlas) -> Path:
    """Build the index of the model's vectors; returns the folder it lies in."""
    refresh_index(made.atlas, CARD.model_id, least_rows=1, plan=lambda rows: CodePlan(1, 1, 1))
    (folder,) = (Path(made.uri) / "_index" / CARD.model_id).iterdir()
    return folder


def test_a_compact_index_is_held_against_the_table(made: MadeAtlas):
    compact_index(made)
    assert looked(made, vectors=True).findings == ()
    made.committer.commit([made.done("new"), made.done("a", "other", tiles=2, stamp="2")])
    assert looked(made, vectors=True).findings == (), "a search passes over what is gone"


def test_a_compact_index_that_hides_tiles_is_dropped(made: MadeAtlas):
    folder = compact_index(made)
    made.committer.commit([made.done("new")])
    card = json.loads((folder / "index.json").read_text())
    files = [f.metadata.files[0].path for f in made.atlas.tiles.get_fragments()]
    (folder / "index.json").write_text(json.dumps(card | {"files": files}))  # all seen, it says
    (finding,) = looked(made, vectors=True).findings
    assert finding.message == "covers 19 rows and leaves 0, but 24 have a vector"
    assert repair(made.writer, vectors=True).after.findings == ()
    assert not folder.exists()


def test_a_damaged_compact_index_is_a_note(made: MadeAtlas):
    folder = compact_index(made)
    (folder / "codes.faiss").write_bytes(b"")
    assert looked(made).findings == ()
    report = looked(made, vectors=True)
    assert report.holds
    assert found(report) == {("indices", f"vectors.{CARD.model_id}")}
    repaired = repair(made.writer, vectors=True)
    assert repaired.after.findings == ()
    assert not folder.exists()


def test_an_index_of_another_table_is_a_note(made: MadeAtlas):
    folder = compact_index(made)
    card = json.loads((folder / "index.json").read_text())
    witnesses = dict.fromkeys(card["witnesses"], "0" * 32)
    (folder / "index.json").write_text(json.dumps(card | {"witnesses": witnesses}))
    report = looked(made)
    assert report.holds
    assert "made from another table" in report.findings[0].message


def test_what_was_forgotten_is_gone(made: MadeAtlas):
    slide = made.atlas.slides.to_table(filter="slide_id = 'a'")
    forget(made.writer, Subject(slide_id="a"))
    assert looked(made).holds
    made.writer.append("slides", slide)
    assert ("forgotten", "a") in found(looked(made))
    assert repair(made.writer).after.holds
    assert "a" not in made.state()


def test_repeated_tiles_are_found_in_several_passes(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch
):
    everything = made.atlas.tiles.to_table()
    made.writer.append("tiles", everything)
    monkeypatch.setattr(census, "KEYS_AT_ONCE", 5)
    assert census.find_repeated(made.atlas.tiles) == SLIDES
    monkeypatch.setattr(census, "KEYS_AT_ONCE", 1000)
    assert census.find_repeated(made.atlas.tiles) == SLIDES


def test_slides_that_share_fragments_are_told_apart(made: MadeAtlas):
    made.writer.transact("tiles", lambda tiles: tiles.optimize.compact_files())
    rows = made.atlas.tiles.to_table()
    shuffled = rows.take(np.random.default_rng(7).permutation(len(rows)))
    made.writer.delete("tiles", "true")
    made.writer.append("tiles", shuffled)
    assert looked(made, vectors=True).holds
    moved_tile(made, made.writer)
    assert found(looked(made, vectors=True)) == {("tile-ids", "c")}


def test_a_job_at_work_is_no_fault(tmp_path: Path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    fill(made)
    report = verify(made.uri)
    assert report.findings == ()
    assert report.at_work.startswith("test on ")


def test_a_wave_that_a_job_at_work_has_not_finished_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("microtome.atlas.evidence.SETTLE_S", 0.2)
    made = MadeAtlas(str(tmp_path / "atlas"))
    fill(made)
    unsettled(made, made.writer)
    report = verify(made.uri)
    assert report.holds
    (finding,) = report.findings
    assert (finding.check, finding.severity) == ("waves", "note")


def test_a_run_whose_process_is_gone_is_a_note_that_repair_clears(tmp_path: Path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    fill(made)
    report = looked(made)
    assert report.holds
    assert found(report) == {("runs", made.run_id)}
    repaired = repair(made.writer)
    assert repaired.actions == (f"noted that 1 runs were interrupted: {made.run_id}",)
    assert repaired.after.findings == ()


def test_there_must_be_an_atlas(tmp_path: Path):
    with pytest.raises(AtlasNotFound):
        verify(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_a_card_of_another_model_is_told(made: MadeAtlas):
    tiles = made.atlas.tiles
    made.writer.transact(
        "tiles", lambda tiles: tiles.alter_columns({"path": VECTOR, "name": "vector_0123456789ab"})
    )
    report = looked(made)
    assert ("models", "vector_0123456789ab") in found(report)
    assert tiles.version < Atlas.open(made.uri).tiles.version


def test_every_check_is_described():
    readme = Path(__file__).parents[2] / "platform" / "README.md"
    described = [
        line.split("`")[1] for line in readme.read_text().splitlines() if line[:3] == "| `"
    ]
    checks = [check.name for check in (*CHECKS, VECTORS)]
    start = described.index("files")
    assert sorted(described[start : start + len(checks)]) == sorted(checks)
