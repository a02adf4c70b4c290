from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.forgetting import Subject, forget
from microtome.atlas.recovery import recover
from microtome.atlas.rollback import plan_rollback, roll_back
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.versions import drop_tags
from microtome.atlas.writer import Writer
from microtome.errors import AtlasVersionNotFound
from support.killed_change import change, killed
from support.made_atlas import CARD, MadeAtlas, State, content_id, open_or_create, state_of

NOTHING = RunTotals()


def new_run(made: MadeAtlas) -> str:
    """End the run there is, begin another."""
    finish_run(made.writer, made.run_id, "finished", NOTHING)
    made.run_id = start_run(made.writer, "index", {}, CARD)
    return made.run_id


def runs(atlas: Atlas) -> list[tuple[str, str]]:
    rows = atlas.runs.to_table(columns=["run_id", "command", "status"]).sort_by("run_id")
    return [(row["command"], row["status"]) for row in rows.to_pylist()]


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    """Two runs: the first has a, b and gone, the second changes a, fails b, adds c and d."""
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done("a"), made.done("b"), made.done("gone")])
    new_run(made)
    made.committer.commit(
        [made.done("a", "a, again", tiles=3, stamp="2"), made.done("c"), made.empty("d")]
    )
    made.committer.commit([made.failed("b", stamp="2"), made.failed("x")])
    finish_run(made.writer, made.run_id, "finished", NOTHING)
    return made


FIRST: State = {name: (content_id(name), 5, "done", 5) for name in ("a", "b", "gone")}


def test_the_atlas_is_what_it_was_before_the_run(made: MadeAtlas):
    plan = roll_back(made.writer, made.run_id)
    assert plan.later == []
    assert made.state() == FIRST
    assert runs(made.atlas) == [
        ("index", "finished"),
        ("index", "rolled-back"),
        ("rollback", "finished"),
    ]
    for table in ("tiles", "slides", "work", "runs"):
        made.atlas.dataset(table).validate()


def test_a_run_is_named_by_the_beginning_of_its_id(made: MadeAtlas):
    assert roll_back(made.writer, made.run_id[:-4]).run_id == made.run_id
    assert made.state() == FIRST


def test_work_goes_on_after_it(made: MadeAtlas):
    roll_back(made.writer, made.run_id)
    new_run(made)
    made.committer.commit([made.done("c"), made.done("a", "a, again", tiles=3, stamp="2")])
    again = {"a": (content_id("a, again"), 3, "done", 3), "c": (content_id("c"), 5, "done", 5)}
    assert made.state() == FIRST | again


def test_later_runs_are_undone_too_and_named(made: MadeAtlas):
    second = made.run_id
    third = new_run(made)
    made.committer.commit([made.done("e")])
    finish_run(made.writer, third, "finished", NOTHING)
    assert plan_rollback(made.uri, second).later == [third]
    roll_back(made.writer, second)
    assert made.state() == FIRST


def test_before_the_first_run_there_was_nothing(made: MadeAtlas):
    first = made.atlas.runs.to_table(columns=["run_id"])["run_id"].to_pylist()
    roll_back(made.writer, min(first))
    assert made.state() == {}
    assert Atlas.open(made.uri).models == made.atlas.models


def test_a_rollback_can_be_rolled_back(made: MadeAtlas):
    second = made.state()
    roll_back(made.writer, made.run_id)
    (undoing,) = made.atlas.runs.to_table(filter="command = 'rollback'")["run_id"].to_pylist()
    roll_back(made.writer, undoing)
    assert made.state() == second
    assert runs(made.atlas)[:3] == [
        ("index", "finished"),
        ("index", "finished"),
        ("rollback", "rolled-back"),
    ]


def test_columns_that_came_later_go(made: MadeAtlas):
    third = new_run(made)
    made.writer.transact("tiles", lambda tiles: tiles.add_columns({"later": "1"}))
    finish_run(made.writer, third, "finished", NOTHING)
    roll_back(made.writer, third)
    assert "later" not in made.atlas.tiles.schema.names


def test_rows_deleted_within_a_file_before_the_run_stay_deleted(made: MadeAtlas):
    made.writer.transact("tiles", lambda tiles: tiles.optimize.compact_files())
    third = new_run(made)
    made.committer.commit([made.done("b", "b, again", tiles=2, stamp="3")])
    fourth = new_run(made)
    before = made.state()
    made.writer.transact("tiles", lambda tiles: tiles.optimize.compact_files())
    made.committer.commit([made.done("a", "a, once more", tiles=1, stamp="4")])
    finish_run(made.writer, fourth, "finished", NOTHING)
    roll_back(made.writer, fourth)
    assert made.state() == before
    roll_back(made.writer, third)
    assert made.state()["b"][1:] == (5, "failed", 5)


def test_a_table_that_is_as_it_was_keeps_its_indices(made: MadeAtlas):
    made.writer.transact(
        "tiles", lambda tiles: tiles.create_scalar_index("slide_id", "BTREE", name="by_slide")
    )
    third = new_run(made)
    made.committer.commit([made.failed("y")])
    finish_run(made.writer, third, "finished", NOTHING)
    roll_back(made.writer, third)
    assert "y" not in made.state()
    assert [index.name for index in made.atlas.tiles.describe_indices()] == ["by_slide"]


def test_what_was_forgotten_never_comes_back(made: MadeAtlas, monkeypatch: pytest.MonkeyPatch):
    forget(made.writer, Subject("gone"))
    transact = Writer.transact

    def looking(writer, *asked, **options):
        done = transact(writer, *asked, **options)
        assert "gone" not in state_of(made.atlas)
        return done

    monkeypatch.setattr(Writer, "transact", looking)
    roll_back(made.writer, made.run_id)
    assert made.state() == {name: row for name, row in FIRST.items() if name != "gone"}
    assert ("forget", "finished") in runs(made.atlas)


def test_a_failed_look_at_bytes_that_were_forgotten_takes_no_slide_with_it(made: MadeAtlas):
    third = new_run(made)
    made.committer.commit([made.done("a", "gone", stamp="5")])  # refused: the same bytes
    fourth = new_run(made)
    forget(made.writer, Subject("gone"))
    roll_back(made.writer, fourth)
    assert third < fourth
    assert made.state()["a"] == (content_id("a, again"), 3, "done", 3)


def test_a_killed_run_can_be_undone(made: MadeAtlas):
    second = made.state()
    third = new_run(made)
    committer = made.committer
    committer._write_slides(committer._judge([made.done("e")]))
    recover(made.writer, made.atlas)
    fourth = start_run(made.writer, "index", {}, CARD)
    finish_run(made.writer, fourth, "finished", NOTHING)
    assert plan_rollback(made.uri, third).later == [fourth]
    roll_back(made.writer, third)
    assert made.state() == second


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda made: made.run_id[:7], "knows no run"),
        (lambda made: made.run_id[:8], "begins the ids of 2 runs"),
        (lambda made: roll_back(made.writer, made.run_id).run_id, "rolled back already"),
        (
            lambda made: (
                forget(made.writer, Subject("gone"))
                and max(made.atlas.runs.to_table()["run_id"].to_pylist())
            ),
            "forgot a slide",
        ),
        (
            lambda made: (
                drop_tags(made.writer, [min(made.atlas.runs.to_table()["run_id"].to_pylist())])
                or made.run_id
            ),
            "no longer keeps what it was before",
        ),
    ],
    ids=["unknown", "of-two", "twice", "forgetting", "pruned"],
)
def test_what_cant_be_undone_is_said(made: MadeAtlas, spoil, message: str):
    with pytest.raises(AtlasVersionNotFound, match=message):
        roll_back(made.writer, spoil(made))


def test_killed_anywhere_it_is_finished_by_whoever_writes_next(made: MadeAtlas, tmp_path: Path):
    forget(made.writer, Subject("gone"))
    run_id = made.run_id
    before, after = made.state(), {name: row for name, row in FIRST.items() if name != "gone"}
    whole, broken = made.uri, str(tmp_path / "broken")
    open_or_create(whole)  # lets go of the writer
    step, seen = 0, set()
    while True:
        shutil.copytree(whole, broken)
        if not killed(broken, "rollback", run_id, step):
            break
        atlas = Atlas.open(broken)
        for content, _, status, tiles in state_of(atlas).values():
            assert tiles or status != "done", f"at step {step} the ledger claims {content}"
        assert "gone" not in state_of(atlas)
        change(broken, "another")
        found = state_of(atlas)
        seen.add(found == after)
        assert found in (before, after), f"killed at step {step}"
        if found == before:
            change(broken, "rollback", run_id)
            assert state_of(atlas) == after
        shutil.rmtree(broken)
        step += 1
    assert state_of(Atlas.open(broken)) == after
    assert seen == {True, False}
