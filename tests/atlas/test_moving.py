"""A slide that is found under another name: it goes by it, or is refused; nothing is embedded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from microtome.atlas.ledger import Ledger
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.recovery import recover
from microtome.slides.slide import SlideRef
from support.cut_short import killed_after
from support.made_atlas import CARD, MadeAtlas, content_id, ref_of


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    return MadeAtlas(str(tmp_path / "atlas"))


def known(ref: SlideRef, content: str) -> SlideOutcome:
    """What a worker says of a slide whose bytes the atlas holds under another name."""
    return SlideOutcome(ref, "known", content_id(content))


MOVED = replace(
    ref_of("b", uri="elsewhere/b", stamp="2"),
    case_id="it's another",
    columns={"organ": None, "age": 7},
)


def test_a_slide_whose_old_file_is_gone_goes_by_its_new_name(made: MadeAtlas):
    made.committer.commit([made.done("a"), made.done("c", tiles=2)])
    before = {tile["tile_id"]: tile for tile in made.atlas.tiles.to_table().to_pylist()}

    (became,) = made.committer.commit([known(MOVED, "a")])

    assert became.status == "known"
    assert made.state() == {
        "b": (content_id("a"), 5, "done", 5),
        "c": (content_id("c"), 2, "done", 2),
    }
    facts = {"slide_id": "b", "case_id": "it's another", "organ": None, "age": 7}
    for tile in made.atlas.tiles.to_table().to_pylist():
        was = before[tile["tile_id"]]
        assert tile == (was | facts if was["slide_id"] == "a" else was)
    slide = made.atlas.slides.to_table(filter="slide_id = 'b'").to_pylist()[0]
    assert slide.items() >= (facts | {"uri": "elsewhere/b", "stamp": "2", "vendor": "made"}).items()
    assert Ledger(made.atlas, CARD.model_id).pending([MOVED]) == []


@pytest.mark.parametrize("carried", [False, True], ids=["nothing", "another's"])
def test_a_slide_that_no_manifest_describes_keeps_what_one_said(made: MadeAtlas, carried: bool):
    """Facts carried over from whoever had the new name are of other bytes."""
    made.committer.commit([made.done("a")])
    others = {"case_id": "another", "columns": {"organ": "skin"}} if carried else {}
    ref = SlideRef("b", "elsewhere/b", carried=carried, **others)

    made.committer.commit([known(ref, "a")])

    said = {"slide_id": "b", "case_id": "case-1", "organ": "lung", "age": 61}
    for table in (made.atlas.slides, made.atlas.tiles):
        assert all(row.items() >= said.items() for row in table.to_table().to_pylist())


def test_a_file_that_a_manifest_names_anew_goes_by_that_name(made: MadeAtlas, tmp_path: Path):
    (tmp_path / "a").touch()
    made.committer.commit([made.done("a", uri=str(tmp_path / "a"))])
    made.committer.commit([known(replace(MOVED, uri=str(tmp_path / "a")), "a")])
    assert made.state() == {"b": (content_id("a"), 5, "done", 5)}


def test_a_slide_whose_old_file_is_still_there_is_a_copy(made: MadeAtlas, tmp_path: Path):
    (tmp_path / "a").touch()
    made.committer.commit([made.done("a", uri=str(tmp_path / "a"))])
    (became,) = made.committer.commit([known(MOVED, "a")])
    assert (became.status, became.cause) == ("failed", "duplicate-content")
    assert became.message.startswith("b has the same bytes as the slide a of the atlas. ")
    assert made.state()["a"] == (content_id("a"), 5, "done", 5)


def test_of_two_new_names_for_one_slide_the_first_is_taken(made: MadeAtlas):
    made.committer.commit([made.done("a")])
    outcomes = [known(MOVED, "a"), known(ref_of("c"), "a")]
    second = made.committer.commit([replace(outcomes[0], ref=replace(MOVED, uri=__file__))])
    assert [became.status for became in second] == ["known"]
    (third,) = made.committer.commit([outcomes[1]])
    assert third.cause == "duplicate-content"


def test_a_slide_may_take_the_name_of_one_that_it_overwrote(made: MadeAtlas):
    made.committer.commit([made.done("a", "old"), made.done("b", "good", tiles=3)])
    (became,) = made.committer.commit([known(ref_of("a", stamp="2"), "good")])
    assert became.status == "known"
    assert made.state() == {"a": (content_id("good"), 3, "done", 3)}


def test_a_slide_may_not_take_the_name_of_another_one(made: MadeAtlas):
    made.committer.commit([made.done("a", uri="one/a"), made.done("b")])
    (became,) = made.committer.commit([known(ref_of("a", uri="two/a"), "b")])
    assert became.cause == "duplicate-slide-id"
    assert made.state().keys() == {"a", "b"}


def test_bytes_that_changed_meanwhile_are_looked_at_again(made: MadeAtlas):
    (became,) = made.committer.commit([known(ref_of("b"), "bytes")])
    assert became.cause == "duplicate-content"
    assert Ledger(made.atlas, CARD.model_id).pending([ref_of("b")]) == [ref_of("b")]


@pytest.mark.parametrize("tissue", [True, False])
@pytest.mark.parametrize("commits", range(5))
def test_a_change_of_name_that_is_killed_is_finished_or_undone(
    made: MadeAtlas, tissue: bool, commits: int
):
    made.committer.commit([made.done("a") if tissue else made.empty("a"), made.done("c")])
    with killed_after(commits):
        made.committer.commit([known(MOVED, "a")])

    recover(made.writer, made.atlas)
    at_rest = made.state()
    if Ledger(made.atlas, CARD.model_id).pending([MOVED]):
        made.committer.commit([known(MOVED, "a")])

    row = (content_id("a"), 5, "done", 5) if tissue else (content_id("a"), 0, "empty", 0)
    assert at_rest in ({"a": row, "c": at_rest["c"]}, {"b": row, "c": at_rest["c"]})
    assert made.state() == {"b": row, "c": at_rest["c"]}
