"""Waves: whole slides or nothing, each once, whatever was there before."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.atlas.commit import Committer
from microtome.atlas.ledger import Ledger
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.recovery import recover
from support.made_atlas import CARD, MadeAtlas, content_id, ref_of


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    return MadeAtlas(str(tmp_path))


def test_a_wave_becomes_visible_in_one_version(made: MadeAtlas):
    before = made.atlas.tiles.version
    outcomes = [made.done("a", tiles=3), made.failed("f"), made.empty("e"), made.done("b", tiles=4)]
    assert made.committer.commit(outcomes) == tuple(outcomes)
    assert made.atlas.tiles.version == before + 1
    assert made.state() == {
        "a": (content_id("a"), 3, "done", 3),
        "b": (content_id("b"), 4, "done", 4),
        "e": (content_id("e"), 0, "empty", 0),
        "f": ("", 0, "failed", 0),
    }


def test_a_wave_of_failures_leaves_the_tiles_alone(made: MadeAtlas):
    before = made.atlas.tiles.version
    made.committer.commit([made.failed("f"), made.empty("e")])
    assert made.atlas.tiles.version == before


def test_no_outcomes_are_no_commit(made: MadeAtlas):
    assert made.committer.commit([]) == ()
    assert made.atlas.work.version == 1


@pytest.mark.parametrize(
    ("planned", "stored"),
    [(6, 5), (4, 5), (6, 6), (5, 4)],
)
def test_a_slide_whose_counts_disagree_never_becomes_visible(
    made: MadeAtlas, planned: int, stored: int
):
    short = replace(made.done("a", tiles=5), planned_tiles=planned, stored_tiles=stored)
    (became,) = made.committer.commit([short])
    assert (became.status, became.cause) == ("failed", "atlas-write-failed")
    assert f"a: of {planned} planned tiles {stored} were embedded and 5 stored" in became.message
    assert made.state() == {"a": ("", 0, "failed", 0)}


def test_fragments_that_lost_a_part_never_become_visible(made: MadeAtlas):
    outcome = made.done("a")
    (became,) = made.committer.commit([replace(outcome, fragments=(outcome.fragments * 2))])
    assert became.status == "failed"


def test_the_same_bytes_under_another_name_are_refused_within_a_wave(made: MadeAtlas):
    _, second = made.committer.commit([made.done("a", "bytes"), made.done("b", "bytes")])
    assert (second.status, second.cause) == ("failed", "duplicate-content")
    assert second.message.startswith("b has the same bytes as the slide a ")
    assert made.state()["b"] == ("", 0, "failed", 0)


def test_the_same_bytes_under_another_name_are_refused_later(made: MadeAtlas):
    made.committer.commit([made.done("a", "bytes")])
    (second,) = made.committer.commit([made.done("b", "bytes")])
    assert second.cause == "duplicate-content"
    assert made.atlas.tiles.count_rows() == 5


def test_another_slide_of_a_known_name_pushes_nothing_out(made: MadeAtlas):
    made.committer.commit([made.done("a", "one", uri="one/a")])
    (second,) = made.committer.commit([made.done("a", "two", uri="two/a")])
    assert (second.status, second.cause) == ("failed", "duplicate-slide-id")
    assert second.message.startswith("a is the name of another slide in the atlas, from one/a. ")
    assert made.atlas.tiles.count_rows() == 5
    assert Ledger(made.atlas, CARD.model_id).finished_content("a") == content_id("one")


def test_a_slide_that_moved_as_it_is_may_change_in_its_new_place(made: MadeAtlas):
    committer = made.committer
    committer.commit([made.done("a", "old", uri="one/a")])
    moved = ref_of("a", uri="two/a", stamp="2")
    committer.commit([SlideOutcome(moved, "unchanged", content_id("old"))])
    (changed,) = committer.commit([made.done("a", "new", tiles=3, uri="two/a")])
    assert changed.status == "done"
    assert made.state() == {"a": (content_id("new"), 3, "done", 3)}


def test_slides_may_move_up_by_one_name_in_one_wave(made: MadeAtlas):
    made.committer.commit([made.done("1", "x"), made.done("2", "y")])
    made.committer.commit([made.done("1", "new"), made.done("2", "x"), made.done("3", "y")])
    assert {slide: (row[0], row[2]) for slide, row in made.state().items()} == {
        "1": (content_id("new"), "done"),
        "2": (content_id("x"), "done"),
        "3": (content_id("y"), "done"),
    }


def test_a_changed_slide_is_exchanged_in_one_version(made: MadeAtlas):
    made.committer.commit([made.done("a", "old", tiles=5), made.done("b", tiles=2)])
    before = made.atlas.tiles.version
    made.committer.commit([made.done("a", "new", tiles=3)])
    assert made.atlas.tiles.version == before + 1
    assert made.state() == {
        "a": (content_id("new"), 3, "done", 3),
        "b": (content_id("b"), 2, "done", 2),
    }
    assert Ledger(made.atlas, CARD.model_id).finished_content("a") == content_id("new")


def test_a_slide_that_became_blank_loses_its_tiles(made: MadeAtlas):
    made.committer.commit([made.done("a", "old")])
    made.committer.commit([made.empty("a", "blank")])
    assert made.state() == {"a": (content_id("blank"), 0, "empty", 0)}


def test_a_changed_slide_that_fails_keeps_what_it_had(made: MadeAtlas):
    made.committer.commit([made.done("a", stamp="1")])
    made.committer.commit([made.failed("a", stamp="2")])
    assert made.atlas.tiles.count_rows() == 5
    assert Ledger(made.atlas, CARD.model_id).finished_content("a") == content_id("a")


def test_only_the_changed_slide_of_a_shared_fragment_leaves(made: MadeAtlas):
    made.committer.commit([made.done("a", "old", tiles=3), made.done("b", tiles=4)])
    made.atlas.tiles.optimize.compact_files()
    made.committer.commit([made.done("a", "new", tiles=2)])
    assert {slide: row[3] for slide, row in made.state().items()} == {"a": 2, "b": 4}


def test_a_slide_committed_twice_is_there_once(made: MadeAtlas):
    made.committer.commit([made.done("a")])
    made.committer.commit([made.done("a")])
    assert made.state() == {"a": (content_id("a"), 5, "done", 5)}


def test_a_slide_named_twice_in_a_wave_is_there_once(made: MadeAtlas):
    outcomes = made.committer.commit([made.done("a"), made.done("a")])
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert made.state() == {"a": (content_id("a"), 5, "done", 5)}


def test_an_unchanged_slide_gets_its_new_stamp_and_place(made: MadeAtlas):
    made.committer.commit([made.done("a", stamp="1")])
    moved = ref_of("a", stamp="2", uri="elsewhere/a")
    made.committer.commit([SlideOutcome(moved, "unchanged", content_id("a"))])
    assert Ledger(made.atlas, CARD.model_id).pending([moved]) == []
    (work,) = made.atlas.work.to_table().to_pylist()
    assert (work["uri"], work["attempts"], work["stored_tiles"]) == ("elsewhere/a", 1, 5)
    (slide,) = made.atlas.slides.to_table().to_pylist()
    assert (slide["uri"], slide["tiles"], slide["vendor"]) == ("elsewhere/a", 5, "made")


NASTY = [
    "it's.svs",
    'say "x".svs',
    "a\\b",
    "ü/µ 組織.svs",
    "x'); DROP",
    "%_[1]",
    "line\nbreak",
    "-- no",
]


def test_any_name_will_do(made: MadeAtlas):
    made.committer.commit([made.done(name) for name in NASTY])
    made.committer.commit([made.done(name, name + "2", tiles=2) for name in NASTY])
    assert {name: row[2:] for name, row in made.state().items()} == dict.fromkeys(
        NASTY, ("done", 2)
    )


def test_a_large_wave_commits(made: MadeAtlas):
    made.committer.commit([made.failed(f"slide-{number}") for number in range(1000)])
    assert made.atlas.work.count_rows("status = 'failed'") == 1000


def test_replaced_rows_keep_row_ids_unique(made: MadeAtlas):
    made.committer.commit([made.done("a", "old"), made.done("b")])
    made.committer.commit([made.done("a", "new"), made.done("c")])
    rows = made.atlas.tiles.scanner(columns=["tile_id"], with_row_id=True).to_table()
    assert len(set(rows["_rowid"].to_pylist())) == 15


KILLED_BEFORE_THE_LEDGER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from support.made_atlas import MadeAtlas
made = MadeAtlas("atlas")
committer = made.committer
committer._write_ledger = lambda wave: os.kill(os.getpid(), signal.SIGKILL)
committer.commit([made.done("a")])
"""


def test_a_process_killed_before_the_ledger_is_written_loses_nothing(tmp_path: Path):
    support = str(Path(__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_THE_LEDGER, support],
        check=False,
        cwd=tmp_path,
        timeout=240,
    )
    assert ran.returncode == -signal.SIGKILL
    made = MadeAtlas(str(tmp_path / "atlas"))
    assert recover(made.writer, made.atlas).mended == ("a",)
    assert made.state() == {"a": (content_id("a"), 5, "done", 5)}


class Killed(BaseException):
    """The process dies here."""


STEPS = ["_write_slides", "_write_tiles", "_write_ledger"]


def dying(committer: Committer, step: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a committer die before or after one of its commits."""
    write = getattr(committer, step)

    def write_and_die(wave):
        if moment == "after":
            write(wave)
        raise Killed

    monkeypatch.setattr(committer, step, write_and_die)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_the_next_run_ends_where_an_unbroken_one_does(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
):
    made.committer.commit(
        [
            made.done("changed", "old"),
            made.done("fades", "tissue"),
            made.failed("retried", "unreadable"),
        ]
    )

    def wave() -> list[SlideOutcome]:
        return [
            made.done("new", tiles=4),
            made.done("changed", "now", tiles=3, stamp="2"),
            made.done("retried", tiles=2),
            replace(made.empty("fades", "faded"), ref=ref_of("fades", stamp="2")),
            made.empty("blank"),
            made.failed("broken"),
        ]

    outcomes = wave()
    committer = made.committer
    dying(committer, step, moment, monkeypatch)
    with pytest.raises(Killed):
        committer.commit(outcomes)

    recover(made.writer, made.atlas)
    pending = Ledger(made.atlas, CARD.model_id).pending([outcome.ref for outcome in outcomes])
    again = [outcome for outcome in wave() if outcome.ref in pending]
    made.committer.commit(again)

    assert made.state() == {
        "blank": (content_id("blank"), 0, "empty", 0),
        "broken": ("", 0, "failed", 0),
        "changed": (content_id("now"), 3, "done", 3),
        "fades": (content_id("faded"), 0, "empty", 0),
        "new": (content_id("new"), 4, "done", 4),
        "retried": (content_id("retried"), 2, "done", 2),
    }
    if (step, moment) in {("_write_tiles", "after"), ("_write_ledger", "before")}:
        assert {ref.slide_id for ref in pending} == {"broken"}, "tiles were embedded again"


VERSIONS = st.sampled_from(["blank", "x", "y"])
ARCHIVE = st.dictionaries(st.sampled_from("abc"), VERSIONS, min_size=1)
STOPS = st.sampled_from(
    [None, *((step, moment) for step in STEPS for moment in ("before", "after"))]
)


def look_at(made: MadeAtlas, slide_id: str, version: str) -> SlideOutcome:
    """What a worker finds: nothing new, a slide without tissue, or tiles."""
    ref, content = ref_of(slide_id, stamp=version), f"{slide_id} {version}"
    if Ledger(made.atlas, CARD.model_id).finished_content(slide_id) == content_id(content):
        return SlideOutcome(ref, "unchanged", content_id(content))
    if version == "blank":
        return replace(made.empty(slide_id, content), ref=ref)
    return made.done(slide_id, content, tiles=2 + "xy".index(version), stamp=version)


def index(made: MadeAtlas, archive: dict[str, str], stop: tuple[str, str] | None) -> None:
    """One run over an archive, killed at a stop if there is one."""
    recover(made.writer, made.atlas)
    refs = [ref_of(slide_id, stamp=version) for slide_id, version in archive.items()]
    pending = Ledger(made.atlas, CARD.model_id).pending(refs)
    committer = made.committer
    with pytest.MonkeyPatch.context() as patch:
        if stop:
            dying(committer, *stop, patch)
        with contextlib.suppress(Killed):
            committer.commit([look_at(made, ref.slide_id, ref.stamp) for ref in pending])


@settings(max_examples=25)
@given(runs=st.lists(st.tuples(ARCHIVE, STOPS), min_size=1, max_size=4))
def test_whatever_changed_and_was_killed_the_last_unbroken_run_makes_it_right(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[dict[str, str], tuple[str, str]]]
):
    made = MadeAtlas(str(tmp_path_factory.mktemp("atlas")))
    for archive, stop in runs:
        index(made, archive, stop)
    index(made, archive, None)
    state = made.state()
    for slide_id, version in archive.items():
        tiles = {"blank": 0, "x": 2, "y": 3}[version]
        status = "done" if tiles else "empty"
        assert state[slide_id] == (content_id(f"{slide_id} {version}"), tiles, status, tiles)
    for content, told, status, there in state.values():
        assert told == there, "a slide that is present must be complete"
        assert bool(content) == (status in {"done", "empty"})
