from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import lance
import numpy as np
import pytest

from microtome.atlas import forgetting
from microtome.atlas.atlas import Atlas
from microtome.atlas.forgetting import (
    Subject,
    drop_ledger_rows,
    find,
    finish,
    forget,
    pending,
    purge,
    scrub,
)
from microtome.atlas.forgotten import FOLDER, Forgotten, is_forgotten
from microtome.atlas.objects import objects
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.recovery import recover
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.errors import AtlasError, AtlasVersionNotFound, LeaseLost, SettingError, SlideUnknown
from support.killed_change import change, killed
from support.made_atlas import (
    CARD,
    MadeAtlas,
    content_id,
    open_or_create,
    ref_of,
    state_of,
    vectors_of,
)
from support.object_store import ObjectStore

NOTHING = RunTotals()
SLIDE, TWIN, CASE = "archive/patient-8151.svs", "copies/twin-of-it.svs", "case-number-4711"
PLACE = "slides/archive/patient-8151.svs"
THUMBNAIL = b"a portrait of tissue"


def fill(made: MadeAtlas, *, indexed: bool = True) -> MadeAtlas:
    """Two runs and a compaction; the slide and its neighbour share a case, a file and indices.

    A twin was refused for the slide's bytes, and settings of a run name its file.
    """
    secret = replace(made.done(SLIDE, case_id=CASE), thumbnail=THUMBNAIL)
    made.committer.commit([secret, made.done("neighbour", case_id=CASE), made.done("other")])
    made.writer.transact("tiles", lambda tiles: tiles.optimize.compact_files())
    made.writer.transact("slides", lambda slides: slides.optimize.compact_files())
    for column in ("slide_id", "case_id") if indexed else ():
        made.writer.transact(
            "tiles", lambda tiles, column=column: tiles.create_scalar_index(column, "BTREE")
        )
    finish_run(made.writer, made.run_id, "finished", NOTHING)
    asked = {"sources": [f"/data/{PLACE}", "/data/more"], "model": "starter"}
    made.run_id = start_run(made.writer, "index", asked, CARD)
    made.committer.commit([made.done(TWIN, SLIDE), made.done("late")])
    finish_run(made.writer, made.run_id, "finished", NOTHING)
    return made


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    return fill(MadeAtlas(str(tmp_path / "atlas")))


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MadeAtlas]:
    if request.param == "folder":
        yield fill(MadeAtlas(str(tmp_path / "atlas")))
        return
    s3: ObjectStore = request.getfixturevalue("s3")
    made = fill(MadeAtlas(f"{s3.bucket()}/atlas"), indexed=False)
    yield made
    open_or_create(made.uri)  # lets go of the writer while the store is there


def every_file(uri: str) -> dict[str, bytes]:
    """All bytes under an atlas, by path."""
    store, path = (
        fsspec.core.url_to_fs(uri, use_listings_cache=False)
        if "://" in uri
        else (
            fsspec.filesystem("file"),
            uri,
        )
    )
    return {name: store.cat_file(name) for name in store.find(path)}


def traces(uri: str, needles: dict[str, bytes]) -> dict[str, list[str]]:
    """Where each needle is found."""
    files = every_file(uri)
    return {
        what: [name for name, data in files.items() if needle in data]
        for what, needle in needles.items()
    }


def needles(slide_id: str = SLIDE) -> dict[str, bytes]:
    """What tells of a slide: its names, its picture, and each of its vectors."""
    vectors = vectors_of(slide_id, 5).astype(np.float16)
    return {
        "slide id": slide_id.encode(),
        "file name": slide_id.rsplit("/", 1)[-1].encode(),
        "uri": f"slides/{slide_id}".encode(),
        "content id": content_id(slide_id).encode(),
    } | {f"vector {number}": vector.tobytes() for number, vector in enumerate(vectors)}


def test_every_row_goes_at_once_and_no_other(made: MadeAtlas):
    before = made.state()
    found = forget(made.writer, Subject(SLIDE))
    assert (found.slide_ids, found.tiles) == ([SLIDE], 5)
    assert made.state() == {
        name: row for name, row in before.items() if name not in {SLIDE, TWIN}
    }, "the failed look at the twin holds the same content id"


def test_a_case_goes_with_all_its_slides(made: MadeAtlas):
    found = forget(made.writer, Subject(case_id=CASE))
    assert (found.slide_ids, found.tiles) == ([SLIDE, "neighbour"], 10)
    assert set(made.state()) == {"other", "late"}


def test_what_stays_is_a_hash_that_keeps_it_out(made: MadeAtlas):
    assert not is_forgotten(made.uri, SLIDE)
    forget(made.writer, Subject(case_id=CASE))
    assert is_forgotten(made.uri, SLIDE)
    assert is_forgotten(made.uri, "renamed", content_id(SLIDE))
    assert is_forgotten(made.uri, "new", content_id("new"), CASE)
    assert not is_forgotten(made.uri, "other", content_id("other"), "case-1")
    (record,) = Forgotten.of(made.uri).records
    (text,) = [data.decode() for name, data in every_file(made.uri).items() if FOLDER in name]
    assert record.run_id == max(made.atlas.runs.to_table()["run_id"].to_pylist())
    assert not re.search(f"{CASE}|{SLIDE}|{content_id(SLIDE)}", text)


@pytest.mark.parametrize(
    ("slide_id", "content", "case_id"),
    [
        (SLIDE, "rescanned", "case-1"),
        ("renamed", SLIDE, "case-1"),
        ("another slide of the case", "its own", CASE),
    ],
    ids=["name", "bytes", "case"],
)
def test_it_is_not_indexed_again(made: MadeAtlas, slide_id: str, content: str, case_id: str):
    forget(made.writer, Subject(case_id=CASE))
    before = made.state()
    refused, fine, failed = made.committer.commit(
        [
            made.done(slide_id, content, case_id=case_id),
            made.done("fine"),
            made.failed(SLIDE),
        ]
    )
    assert (refused.status, refused.cause) == ("failed", "slide-forgotten")
    assert (fine.status, failed.cause) == ("done", "slide-forgotten")
    assert made.state() == before | {"fine": (content_id("fine"), 5, "done", 5)}, "no ledger row"


def test_two_atlases_hash_alike_names_differently(tmp_path: Path):
    records = []
    for name in ("one", "two"):
        made = MadeAtlas(str(tmp_path / name))
        made.committer.commit([made.done("a")])
        forget(made.writer, Subject("a"))
        records.append(Forgotten.of(made.uri).records[0])
    assert records[0].slides != records[1].slides


def test_forgetting_again_says_so_and_does_nothing(made: MadeAtlas):
    forget(made.writer, Subject(SLIDE))
    runs = made.atlas.runs.version
    assert forget(made.writer, Subject(SLIDE)).already
    assert made.atlas.runs.version == runs


def test_a_slide_that_isnt_there_cant_be_forgotten(made: MadeAtlas):
    with pytest.raises(SlideUnknown, match="holds no slide nobody"):
        find(made.uri, Subject("nobody"))


def test_a_case_without_slides_is_kept_out_and_loses_its_failures_when_wanted_again(
    made: MadeAtlas,
):
    start_run(made.writer, "index", {}, CARD)
    before = made.state()
    made.committer.commit([made.failed("broken"), made.failed("other")])
    forget(made.writer, Subject(case_id="of failures"))
    purge(made.writer)
    refs = [ref_of("broken", case_id="of failures"), ref_of("other", case_id="of failures")]
    drop_ledger_rows(made.writer, [*refs, ref_of("late")])
    assert made.state() == before, "what is in the atlas is of another case"
    assert len(pending(made.uri)) == 1


@pytest.mark.parametrize("named", [{}, {"slide_id": "a", "case_id": "b"}, {"slide_id": ""}])
def test_a_slide_or_a_case_is_named(named: dict[str, str]):
    with pytest.raises(SettingError, match="either a slide or a case"):
        Subject(**named)


def test_a_slide_that_failed_can_be_forgotten(made: MadeAtlas):
    start_run(made.writer, "index", {}, CARD)
    made.committer.commit([made.failed("broken")])
    forget(made.writer, Subject("broken"))
    assert "broken" not in made.state()


def test_bytes_of_another_slide_stay_where_a_failed_look_named_them(made: MadeAtlas):
    start_run(made.writer, "index", {}, CARD)
    made.committer.commit([made.done("late", "other", stamp="2")])
    before = made.state()
    assert (
        "duplicate-content"
        in made.atlas.work.to_table(filter="slide_id = 'late'")["cause"].to_pylist()
    )
    forget(made.writer, Subject("late"))
    assert made.state() == {name: row for name, row in before.items() if name != "late"}
    assert not is_forgotten(made.uri, "renamed", content_id("other"))


def test_a_refused_copy_is_forgotten_without_its_original(made: MadeAtlas):
    before = made.state()
    forget(made.writer, Subject(TWIN))
    assert made.state() == {name: row for name, row in before.items() if name != TWIN}


def test_what_comes_back_somehow_goes_with_the_next_writer(made: MadeAtlas):
    forget(made.writer, Subject(SLIDE))
    made.committer.commit([made.done(SLIDE)])
    recover(made.writer, made.atlas)
    assert SLIDE not in made.state()


def test_what_comes_back_after_a_purge_is_purged_again(made: MadeAtlas):
    forget(made.writer, Subject(SLIDE))
    purge(made.writer)
    back = made.atlas.slides.to_table(filter="slide_id = 'late'")
    back = back.set_column(0, back.schema.field(0), [[SLIDE]])
    made.writer.append("slides", back)
    assert finish(made.writer) == (SLIDE,)
    assert len(pending(made.uri)) == 1


def test_older_states_that_hold_it_open_no_more(made: MadeAtlas):
    runs = sorted(made.atlas.runs.to_table()["run_id"].to_pylist())
    forget(made.writer, Subject("late"))
    with pytest.raises(AtlasVersionNotFound, match="holds what was forgotten since"):
        made.atlas.at(runs[1])
    assert made.atlas.at(runs[0]).tiles.count_rows() == 15, "it came only later"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # message
        ("the same bytes as a.svs of the atlas", "the same bytes as (forgotten) of the atlas"),
        ("from s3://bucket/a.svs", "from s3://bucket/(forgotten)"),
        ("ba.svs, a.svsx", "ba.svs, a.svsx"),
        # settings
        ('{"sources": ["x/a.svs", "y"]}', '{"sources": ["(forgotten)", "y"]}'),
        (
            '{"model": "a.svs", "n": {"m": "a.svs"}}',
            '{"model": "a.svs", "n": {"m": "(forgotten)"}}',
        ),
        ('{"b":1}', '{"b":1}'),
    ],
)
def test_names_are_taken_out_of_what_was_said(text: str, expected: str):
    assert scrub(text, re.compile(r"(?<!\w)a\.svs(?!\w)")) == expected


def test_purged_no_byte_is_left(anywhere: MadeAtlas):
    made = anywhere
    hidden = needles() | {"thumbnail": THUMBNAIL, "case": CASE.encode()}
    for folder in ("_index", "_mosaics", "_embed"):
        objects(made.uri, folder, "a copy").put("codes", hidden["vector 1"])
    made.done(SLIDE, "a fragment that was never committed")
    for what, places in traces(made.uri, hidden).items():
        assert places, f"the test can't see {what}"
    kept = needles("other") | needles("late")
    forget(made.writer, Subject(case_id=CASE))
    state = made.state()
    assert [record.purged_at for record in pending(made.uri)] == [""]

    purge(made.writer)

    assert traces(made.uri, hidden) == {what: [] for what in hidden}
    assert all(traces(made.uri, kept).values()), "others lost theirs"
    assert made.state() == state
    assert pending(made.uri) == ()
    assert purge(made.writer) == ()
    for table in ("tiles", "slides", "work", "runs"):
        made.atlas.dataset(table).validate()


def test_a_slide_whose_name_is_quoted_by_sql_leaves_no_byte(tmp_path: Path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    name = "o'brien's %slide_42"
    made.committer.commit([made.done(name), made.done("other")])
    forget(made.writer, Subject(name))
    purge(made.writer)
    found = needles(name) | {"as SQL has it": name.replace("'", "''").encode()}
    assert traces(made.uri, found) == {what: [] for what in found}


def test_a_purge_that_was_paused_takes_nothing_from_who_took_over(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch
):
    """It wakes up after its last look at the lease, when the next job's workers have written."""
    forget(made.writer, Subject(SLIDE))
    arriving: list[SlideOutcome] = []
    drop = forgetting._drop_older_versions

    def woken(dataset: lance.LanceDataset) -> None:
        arriving.append(made.done("new"))
        drop(dataset)
        raise LeaseLost("another job took over", remedy="Wait for it.")

    monkeypatch.setattr(forgetting, "_drop_older_versions", woken)
    with pytest.raises(LeaseLost):
        purge(made.writer)
    made.run_id = start_run(made.writer, "index", {}, CARD)
    made.committer.commit(arriving)
    assert made.state()["new"] == (content_id("new"), 5, "done", 5)


def test_work_goes_on_after_a_purge(made: MadeAtlas):
    forget(made.writer, Subject(SLIDE))
    purge(made.writer)
    made.run_id = start_run(made.writer, "index", {}, CARD)
    made.committer.commit([made.done("neighbour", "rescanned", stamp="2"), made.done("new")])
    assert made.state()["neighbour"] == (content_id("rescanned"), 5, "done", 5)
    assert made.state()["new"] == (content_id("new"), 5, "done", 5)


def test_a_damaged_record_stops_whoever_would_let_a_slide_back_in(made: MadeAtlas):
    objects(made.uri, FOLDER, "the record").put("20260101T0-ab.json", b"{")
    with pytest.raises(AtlasError, match=r"20260101T0-ab\.json of the atlas .* is damaged"):
        finish(made.writer)


def sweep(
    whole: str, broken: str, name: str, argument: str = "", stride: int = 1
) -> Iterator[tuple[int, Atlas]]:
    """The atlas after a change was killed before each of its durable steps, one by one."""
    open_or_create(whole)  # lets go of the writer
    for step in itertools.count(0, stride):
        shutil.copytree(whole, broken)
        if not killed(broken, name, argument, step):
            return
        yield step, Atlas.open(broken)
        shutil.rmtree(broken)


def test_killed_anywhere_forgetting_is_finished_by_whoever_writes_next(
    made: MadeAtlas, tmp_path: Path
):
    broken = str(tmp_path / "broken")
    before = made.state()
    after = {name: row for name, row in before.items() if name not in {SLIDE, TWIN}}
    seen = set()
    for step, atlas in sweep(made.uri, broken, "forget", SLIDE):
        for content, _, status, tiles in state_of(atlas).values():
            assert tiles or status != "done", f"at step {step} the ledger claims {content}"
        change(broken, "another")
        found = state_of(atlas)
        seen.add(found == after)
        assert found in (before, after), f"killed at step {step}"
        assert (found == after) == bool(Forgotten.of(broken))
        change(broken, "forget", SLIDE)
        assert state_of(atlas) == after
        asked = [json.loads(text) for text in atlas.runs.to_table()["settings"].to_pylist()]
        assert ["(forgotten)", "/data/more"] in [settings.get("sources") for settings in asked]
    assert state_of(Atlas.open(broken)) == after
    assert seen == {True, False}


def test_killed_anywhere_a_purge_is_finished_by_the_next(made: MadeAtlas, tmp_path: Path):
    broken = str(tmp_path / "broken")
    forget(made.writer, Subject(SLIDE))
    after = made.state()
    for step, atlas in sweep(made.uri, broken, "purge", stride=3):
        assert state_of(atlas) == after, f"killed at step {step}"
        assert pending(broken), "it says it is done before it is"
        change(broken, "purge")
        assert state_of(atlas) == after
        hidden = needles() | {"thumbnail": THUMBNAIL}
        assert traces(broken, hidden) == {what: [] for what in hidden}, f"killed at step {step}"
