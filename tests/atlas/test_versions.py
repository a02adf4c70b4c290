from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from microtome.atlas import versions
from microtome.atlas.forgetting import Subject, forget
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.schema import TABLES
from microtome.atlas.versions import drop_tags, expired, finish_tags, list_versions, states, tag_run
from microtome.errors import AtlasVersionNotFound
from support.made_atlas import CARD, MadeAtlas

NOTHING = RunTotals()


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    """Three runs, of one slide each, in waves of their own."""
    made = MadeAtlas(str(tmp_path / "atlas"))
    for slide_id in "abc":
        made.committer.commit([made.done(slide_id)])
        finish_run(made.writer, made.run_id, "finished", NOTHING)
        if slide_id != "c":
            made.run_id = start_run(made.writer, "index", {}, CARD)
    return made


def slides_at(made: MadeAtlas, when: str) -> dict[str, set[str]]:
    """Slide ids in each table of a state."""
    then = made.atlas.at(when)
    tables = {"tiles": then.tiles, "slides": then.slides, "work": then.work}
    return {name: set(table.to_table()["slide_id"].to_pylist()) for name, table in tables.items()}


def everywhere(slide_ids: str) -> dict[str, set[str]]:
    return {table: set(slide_ids) for table in ("tiles", "slides", "work")}


def test_each_run_leaves_a_state_of_all_tables(made: MadeAtlas):
    kept = states(made.uri)
    assert [set(state.versions) for state in kept] == [set(TABLES)] * 3
    for state, slide_ids in zip(kept, ("a", "ab", "abc"), strict=True):
        assert slides_at(made, state.run_id) == everywhere(slide_ids)
        then = made.atlas.at(state.run_id).runs.to_table(filter=f"run_id = '{state.run_id}'")
        assert then["status"].to_pylist() == ["finished"]


def test_a_state_is_named_by_the_beginning_of_its_run(made: MadeAtlas):
    first, second, _ = (state.run_id for state in states(made.uri))
    differ = next(i for i, (x, y) in enumerate(zip(first, second, strict=True)) if x != y)
    assert slides_at(made, first[: differ + 1]) == everywhere("a")
    with pytest.raises(AtlasVersionNotFound, match="begins the ids of 3 runs"):
        made.atlas.at(first[:9])


def test_a_state_is_named_by_its_time(made: MadeAtlas):
    first, second, third = (state.tagged_at for state in states(made.uri))
    assert slides_at(made, second.isoformat()) == everywhere("ab")
    almost = third - timedelta(microseconds=1)
    assert slides_at(made, almost.replace(tzinfo=None).isoformat()) == everywhere("ab"), "UTC"
    assert slides_at(made, (datetime.now(UTC) + timedelta(days=1)).isoformat()) == everywhere("abc")
    with pytest.raises(AtlasVersionNotFound, match="has no state"):
        made.atlas.at((first - timedelta(seconds=1)).isoformat())


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y%m%d"])
def test_a_date_stands_for_its_end(made: MadeAtlas, form: str):
    last = states(made.uri)[-1].tagged_at
    assert slides_at(made, last.strftime(form)) == everywhere("abc")


def test_a_state_is_named_by_its_version_of_tiles(made: MadeAtlas):
    tagged = states(made.uri)[1].versions["tiles"]
    assert slides_at(made, str(tagged)) == everywhere("ab")


def test_tiles_of_a_forgotten_slide_stay_closed_where_clocks_disagree(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch
):
    before = {table: made.atlas.dataset(table).version for table in TABLES}
    drop_tags(made.writer, [state.run_id for state in states(made.uri)])
    forget(made.writer, Subject("a"))
    times = versions._times

    def ahead(uri: str, table: str) -> dict[int, datetime]:
        """Until the slide was forgotten, the clock was an hour ahead."""
        hour = timedelta(hours=1)
        found = times(uri, table)
        return {n: at + hour * (n <= before[table]) for n, at in found.items()}

    monkeypatch.setattr(versions, "_times", ahead)
    with pytest.raises(AtlasVersionNotFound, match="holds what was forgotten"):
        made.atlas.at(str(before["tiles"]))


@pytest.mark.parametrize("length", [1, 4, 7])
def test_a_few_digits_are_a_version_and_no_beginning_of_an_id(made: MadeAtlas, length: int):
    drop_tags(made.writer, [state.run_id for state in states(made.uri)[:-1]])
    digits = states(made.uri)[0].run_id[:length]
    if int(digits) <= made.atlas.tiles.version:
        assert made.atlas.at(digits).tiles.version == int(digits)
    else:
        with pytest.raises(AtlasVersionNotFound, match="has no state"):
            made.atlas.at(digits)


def test_a_version_between_two_runs_comes_with_the_tables_around_it(made: MadeAtlas):
    made.run_id = start_run(made.writer, "index", {}, CARD)
    made.committer.commit([made.done("d")])
    between = made.atlas.tiles.version
    made.committer.commit([made.done("e")])
    assert slides_at(made, str(between)) == everywhere("abcd")


@pytest.mark.parametrize("when", ["999", "", "yesterday", "1999-12-31", "2026-13-01"])
def test_what_there_is_is_said_where_something_else_is_asked(made: MadeAtlas, when: str):
    newest = states(made.uri)[-1].run_id
    with pytest.raises(AtlasVersionNotFound, match=f"It keeps those after the runs {newest}, "):
        made.atlas.at(when)


def test_a_pinned_atlas_is_searched_as_it_was(made: MadeAtlas):
    then = made.atlas.at(states(made.uri)[0].run_id)
    assert then.table("tiles").count_rows() == 5
    assert made.atlas.table("tiles").count_rows() == 15
    assert then.grid == made.atlas.grid


def test_columns_that_came_later_are_none_of_it(made: MadeAtlas):
    made.writer.transact("tiles", lambda tiles: tiles.add_columns({"later": "1"}))
    assert "later" not in made.atlas.at(states(made.uri)[-1].run_id).columns.names


def test_a_killed_run_is_tagged_by_the_next(made: MadeAtlas):
    killed = made.run_id = start_run(made.writer, "index", {}, CARD)
    made.committer.commit([made.done("d")])
    made.run_id = start_run(made.writer, "index", {}, CARD)
    made.committer.commit([made.done("e")])
    assert slides_at(made, killed) == everywhere("abcd")


@pytest.mark.parametrize("tables", range(1, len(TABLES)))
def test_a_state_counts_once_all_tables_carry_it(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch, tables: int
):
    run_id = start_run(made.writer, "index", {}, CARD)
    with monkeypatch.context() as patch:
        patch.setattr(versions, "TABLES", list(TABLES)[:tables])
        tag_run(made.writer, run_id)  # killed half-way
    assert run_id not in {state.run_id for state in states(made.uri)}
    finish_tags(made.writer)
    assert states(made.uri)[-1].run_id == run_id


def test_a_half_that_is_not_the_newest_is_dropped(made: MadeAtlas):
    first = states(made.uri)[0].run_id
    made.writer.transact("slides", lambda slides: slides.tags.delete(first))
    finish_tags(made.writer)
    assert first not in made.atlas.tiles.tags.list()


def test_the_oldest_states_expire(made: MadeAtlas):
    runs = [state.run_id for state in states(made.uri)]
    assert expired(made.uri) == ()
    assert expired(made.uri, keep=2) == (runs[0],)
    drop_tags(made.writer, expired(made.uri, keep=2))
    assert [state.run_id for state in states(made.uri)] == runs[1:]


def test_states_are_listed_newest_first(made: MadeAtlas):
    forget(made.writer, Subject("b"))
    rows = list_versions(made.uri)
    shown = [(row["command"], row["slides"], row["tiles"], row["opens"]) for row in rows]
    assert shown == [
        ("forget", 2, 10, True),
        ("index", 3, 15, False),
        ("index", 2, 10, False),
        ("index", 1, 5, True),
    ]


def test_a_state_whose_files_are_gone_is_said(made: MadeAtlas):
    state = states(made.uri)[0]
    missing = state.versions | {"slides": 999}
    with pytest.raises(AtlasVersionNotFound, match="no longer has version 999 of its table slides"):
        versions.version_of(made.uri, missing, "slides")
