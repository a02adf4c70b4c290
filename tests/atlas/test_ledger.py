"""The ledger: what is left to do, and what a crash left to mend."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from microtome.atlas.ledger import Ledger, Work, read_work
from microtome.atlas.recovery import Recovered, recover
from microtome.atlas.schema import WORK
from microtome.atlas.writer import Writer
from support.made_atlas import CARD, MadeAtlas, content_id, ref_of


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    return MadeAtlas(str(tmp_path))


def ledger(made: MadeAtlas) -> Ledger:
    return Ledger(made.atlas, CARD.model_id)


def test_a_row_of_the_ledger_has_the_tables_columns():
    assert ["work_id", *(field.name for field in fields(Work))] == WORK.names


@pytest.mark.parametrize(
    ("slide_id", "change", "retry", "is_pending"),
    [
        ("done", {}, (), False),
        ("done", {"stamp": "2"}, (), True),  # the file may have changed
        ("done", {"uri": "elsewhere"}, (), True),  # it has moved
        ("empty", {}, (), False),
        ("unread", {}, (), True),  # the store may answer now
        ("broken", {}, (), False),  # the file would fail again
        ("broken", {"stamp": "2"}, (), True),
        ("broken", {}, ("no-mpp",), False),
        ("broken", {}, ("truncated",), True),
        ("broken", {}, ("all",), True),
        ("new", {}, (), True),
    ],
)
def test_what_is_pending(
    made: MadeAtlas, slide_id: str, change: dict[str, str], retry: tuple[str, ...], is_pending: bool
):
    failed = [made.failed("unread", "unreadable"), made.failed("broken", "truncated")]
    made.committer.commit([made.done("done"), made.empty("empty"), *failed])
    ref = ref_of(slide_id, **change)
    assert ledger(made).pending([ref], retry) == ([ref] if is_pending else [])


def test_slides_that_are_left_alone_are_named_with_their_cause(made: MadeAtlas):
    made.committer.commit([made.failed("a"), made.failed("b", "unreadable")])
    refs = [ref_of(name) for name in "abc"]
    assert ledger(made).left_alone(refs) == {"a": "truncated"}
    assert ledger(made).left_alone(refs, ["truncated"]) == {}


def test_pending_slides_keep_their_order(made: MadeAtlas):
    made.committer.commit([made.done("b")])
    refs = [ref_of(name) for name in ("c", "b", "a")]
    assert [ref.slide_id for ref in ledger(made).pending(refs)] == ["c", "a"]


def test_what_another_model_is_done_with_is_left_to_embed(made: MadeAtlas):
    made.committer.commit([made.done("a"), made.failed("b")])
    refs = [ref_of("a"), ref_of("b")]
    assert Ledger(made.atlas, "another").pending(refs) == [ref_of("b")]


def test_the_content_that_is_finished_is_known_by_slide(made: MadeAtlas):
    made.committer.commit([made.done("a"), made.empty("e"), made.failed("f")])
    finished = {name: ledger(made).finished_content(name) for name in "aefx"}
    assert finished == {"a": content_id("a"), "e": content_id("e"), "f": "", "x": ""}
    assert ledger(made).owners() == {content_id("a"): "a", content_id("e"): "e"}


def test_attempts_are_counted_until_a_slide_succeeds(made: MadeAtlas):
    for outcome in (made.failed("a"), made.failed("a", "unreadable"), made.done("a")):
        made.committer.commit([outcome])
    (work,) = read_work(made.atlas)
    assert (work.status, work.attempts, work.cause, work.message) == ("done", 3, "", "")


def test_only_the_newest_failure_of_a_slide_is_kept(made: MadeAtlas):
    made.committer.commit([made.failed("a")])
    made.committer.commit([replace(made.failed("a", "read-failed"), content_id=content_id("a"))])
    assert [work.cause for work in read_work(made.atlas)] == ["read-failed"]


def test_nothing_to_recover_is_no_write(made: MadeAtlas):
    made.committer.commit([made.done("a"), made.empty("e"), made.failed("f")])
    versions = [made.atlas.dataset(table).version for table in ("slides", "tiles", "work")]
    assert recover(made.writer, made.atlas) == Recovered()
    assert [made.atlas.dataset(t).version for t in ("slides", "tiles", "work")] == versions


def test_a_slide_whose_ledger_row_is_lost_is_mended_from_its_tiles(made: MadeAtlas):
    made.committer.commit([made.done("a"), made.empty("e"), made.done("b")])
    made.atlas.work.delete("slide_id IN ('a', 'e')")
    assert recover(made.writer, made.atlas) == Recovered(mended=("a", "e"))
    assert ledger(made).pending([ref_of("a"), ref_of("b"), ref_of("e")]) == []
    work = next(work for work in read_work(made.atlas) if work.slide_id == "a")
    assert (work.status, work.stored_tiles, work.attempts) == ("done", 5, 1)
    assert (work.bytes_read, work.seconds) == (None, None)


def test_a_slide_that_lost_some_tiles_is_withdrawn(made: MadeAtlas):
    made.committer.commit([made.done("a"), made.done("b")])
    made.atlas.work.delete("slide_id = 'a'")
    made.atlas.tiles.delete("slide_id = 'a' AND x > 64")
    assert recover(made.writer, made.atlas) == Recovered(withdrawn=("a",))
    assert made.state() == {"b": (content_id("b"), 5, "done", 5)}


@pytest.mark.parametrize("table", ["work", "tiles", "slides"])
def test_a_withdrawal_that_is_killed_is_finished_later(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch, table: str
):
    """Killed before its deletion from each table; the slide was changing from old to new."""
    made.committer.commit([made.done("a", "old"), made.done("b")])
    committer = made.committer
    monkeypatch.setattr(committer, "_write_tiles", _die)
    with pytest.raises(KeyboardInterrupt):
        committer.commit([made.done("a", "new")])

    transact = Writer.transact
    with monkeypatch.context() as stopped:
        stopped.setattr(
            Writer,
            "transact",
            lambda self, name, change: _die() if name == table else transact(self, name, change),
        )
        with pytest.raises(KeyboardInterrupt):
            recover(made.writer, made.atlas)
    recover(made.writer, made.atlas)
    assert made.state() == {"b": (content_id("b"), 5, "done", 5)}
    assert [ref.slide_id for ref in ledger(made).pending([ref_of("a"), ref_of("b")])] == ["a"]


def _die(*_: object) -> None:
    raise KeyboardInterrupt
