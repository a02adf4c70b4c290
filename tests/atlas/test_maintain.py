"""Maintenance makes an atlas quick and small, and takes nothing from anybody."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from microtome.atlas import compaction
from microtome.atlas import maintain as maintaining
from microtome.atlas.atlas import Atlas
from microtome.atlas.compaction import compact, fragment_rows, superseded
from microtome.atlas.forgetting import Subject, forget
from microtome.atlas.maintain import Maintained, MaintainSettings, maintain
from microtome.atlas.orphans import find_leftovers, remove_leftovers
from microtome.atlas.runs import RunTotals, finish_run
from microtome.atlas.schema import vector_column
from microtome.atlas.verify import verify
from microtome.atlas.writer import open_writer
from microtome.errors import AtlasBusy, AtlasNotFound, LeaseLost, SettingError
from support.cut_short import killed_after
from support.made_atlas import CARD, MadeAtlas, State, content_id, state_of
from support.object_store import ObjectStore

NOW = MaintainSettings(retention_s=1e-6)


def an_atlas(uri: str, *, left: int = 0) -> State:
    """An atlas of four waves, one slide of which changed; a killed job left some fragments."""
    made = MadeAtlas(uri)
    made.committer.commit([made.done("a", "old"), made.done("b", tiles=7)])
    made.committer.commit([made.done("a", "new", tiles=3, stamp="2"), made.empty("e")])
    made.committer.commit([made.done("c"), made.failed("f")])
    made.committer.commit([made.done("d", tiles=9)])
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    for number in range(left):
        made.done(f"left-{number}")
    made.release()
    return made.state()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "atlas")


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request: pytest.FixtureRequest, uri: str) -> str:
    """An atlas's place: a folder, or an object store."""
    if request.param == "folder":
        return uri
    store: ObjectStore = request.getfixturevalue("s3")
    return f"{store.bucket()}/atlas"


def did(done: Maintained) -> dict[str, str]:
    return {step.name: step.did for step in done.steps if step.did}


def test_maintenance_changes_files_and_no_rows(anywhere: str):
    before = an_atlas(anywhere, left=3)
    done = maintain(anywhere, NOW)
    assert state_of(Atlas.open(anywhere)) == before
    assert done.before["tiles"].fragments == 4
    assert done.after["tiles"].fragments == 1
    assert done.after["tiles"].rows == 24
    assert "3 files of killed jobs" in did(done)["leftovers"]
    assert find_leftovers(anywhere)["tiles"].paths == ()
    report = verify(anywhere, vectors=True)
    assert report.findings == ()


def test_maintained_twice_is_maintained_once(uri: str):
    before = an_atlas(uri, left=1)
    maintain(uri, NOW)
    again = maintain(uri, NOW)
    assert state_of(Atlas.open(uri)) == before
    assert "leftovers" not in did(again)
    for table in ("tiles", "slides", "work"):
        assert again.after[table].fragments == again.before[table].fragments == 1
        assert again.after[table].rows == again.before[table].rows


def test_leftovers_stay_until_maintenance(uri: str):
    an_atlas(uri, left=2)
    assert find_leftovers(uri)["tiles"].files == 2
    with open_writer(uri, "index"):
        pass
    assert find_leftovers(uri)["tiles"].files == 2
    maintain(uri, MaintainSettings())
    assert find_leftovers(uri)["tiles"].files == 0


def test_half_written_local_files_are_leftovers(uri: str):
    an_atlas(uri)
    data = Path(uri) / "tiles.lance" / "data"
    (data / "abc.lance#1").write_bytes(b"half")
    (data / "kept.txt").write_bytes(b"somebody's")
    found = find_leftovers(uri)["tiles"]
    assert (found.paths, found.size_bytes) == (("data/abc.lance#1",), 4)
    maintain(uri, MaintainSettings())
    assert {path.name for path in data.iterdir()} & {"abc.lance#1", "kept.txt"} == {"kept.txt"}


def test_an_index_that_was_never_committed_is_a_leftover(uri: str):
    an_atlas(uri)
    page = Path(uri) / "tiles.lance" / "_indices" / "3f0c" / "page.lance"
    page.parent.mkdir(parents=True)
    page.write_bytes(b"half an index")
    maintain(uri, MaintainSettings())
    assert not page.exists()


def test_a_job_at_work_keeps_its_files(uri: str):
    made = MadeAtlas(uri)
    outcome = made.done("a")
    before = find_leftovers(uri)["tiles"].paths
    with pytest.raises(AtlasBusy, match="another job writes to the atlas"):
        maintain(uri, NOW)
    assert find_leftovers(uri)["tiles"].paths == before
    made.committer.commit([outcome])
    assert made.state() == {"a": (content_id("a"), 5, "done", 5)}


def test_who_lost_the_lease_while_listing_removes_nothing(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    an_atlas(uri, left=1)
    with open_writer(uri, "maintain") as writer:
        lost = LeaseLost("another job took over")

        def taken_over(*_: object) -> None:
            raise lost

        monkeypatch.setattr(writer._lease, "check", taken_over)
        with pytest.raises(LeaseLost):
            remove_leftovers(writer)
    assert find_leftovers(uri)["tiles"].files == 1


def test_a_reader_of_the_version_before_reads_on(uri: str):
    an_atlas(uri)
    reader = Atlas.open(uri).tiles
    old = reader.version
    done = maintain(uri, MaintainSettings(retention_s=60))
    assert done.after["tiles"].fragments == 1
    assert reader.to_table().num_rows == 24
    assert Atlas.open(uri).dataset("tiles").checkout_version(old).to_table().num_rows == 24


def test_retention_counts_from_when_a_version_was_superseded(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    an_atlas(uri)
    maintain(uri, MaintainSettings(retention_s=600))
    dataset = Atlas.open(uri).tiles
    made = {v["version"]: v["timestamp"].timestamp() for v in dataset.versions()}
    *older, before_compaction, compacted = sorted(made)
    between_s = (made[before_compaction] + made[compacted]) / 2
    monkeypatch.setattr(compaction, "time", SimpleNamespace(time=lambda: between_s + 600))
    # It was made before then, but was the newest after; of older ones only those tagged stay.
    tagged = {tag["version"] for tag in dataset.tags.list().values()}
    assert set(superseded(dataset, retention_s=600)) == set(older) - tagged


def test_states_of_runs_can_be_opened_after_maintenance(uri: str):
    made = MadeAtlas(uri)
    made.committer.commit([made.done("a")])
    first = made.run_id
    finish_run(made.writer, first, "finished", RunTotals())
    made.committer.commit([made.done("b")])
    made.release()
    maintain(uri, NOW)
    then = Atlas.open(uri).at(first)
    assert state_of(then) == {"a": (content_id("a"), 5, "done", 5)}
    assert then.tiles.to_table().num_rows == 5


def test_what_a_killed_wave_left_is_finished_first(uri: str):
    made = MadeAtlas(uri)
    made.committer.commit([made.done("a"), made.done("b")])
    made.writer.delete("work", "slide_id = 'a'")
    made.release()
    maintain(uri, NOW)
    state = state_of(Atlas.open(uri))
    assert {name: row[2] for name, row in state.items()} == {"a": "done", "b": "done"}
    runs = Atlas.open(uri).runs.to_table(columns=["command", "status"]).to_pylist()
    assert [tuple(run.values()) for run in runs] == [
        ("index", "interrupted"),
        ("maintain", "finished"),
    ]


def test_what_was_forgotten_leaves_no_byte(uri: str):
    secret = "Mustermann-1970.svs"
    made = MadeAtlas(uri)
    made.committer.commit([made.done(secret), made.done("b")])
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    forget(made.writer, Subject(slide_id=secret))
    made.release()
    maintain(uri, MaintainSettings())
    holding = [
        path
        for path in Path(uri).rglob("*")
        if path.is_file() and b"Mustermann" in path.read_bytes()
    ]
    assert holding == []
    assert verify(uri).findings == ()


def test_deleted_rows_are_compacted_away(uri: str):
    an_atlas(uri)
    maintain(uri, NOW)
    made = MadeAtlas(uri)
    made.committer.commit([made.done("d", "d, again", tiles=2, stamp="2")])
    made.release()
    assert Atlas.open(uri).tiles.stats.dataset_stats()["num_deleted_rows"] == 9
    maintain(uri, NOW)
    assert Atlas.open(uri).tiles.stats.dataset_stats()["num_deleted_rows"] == 0


def test_compaction_goes_in_steps_and_each_is_a_commit(uri: str, monkeypatch: pytest.MonkeyPatch):
    made = MadeAtlas(uri)
    for number in range(12):
        made.committer.commit([made.done(f"{number}", tiles=10)])
    before = made.state()
    monkeypatch.setattr(compaction, "FRAGMENT_ROWS", 30)
    monkeypatch.setattr(compaction, "STEP_FRAGMENTS", 1)
    steps: list[int] = []
    assert compact(made.writer, "tiles", steps.append) == 12
    assert steps == [3, 3, 3, 3]
    assert [fragment.count_rows() for fragment in made.atlas.tiles.get_fragments()] == [30] * 4
    assert made.state() == before
    assert compact(made.writer, "tiles") == 0


def test_a_full_fragment_has_half_a_gigabyte_of_vectors(uri: str):
    made = MadeAtlas(uri)
    assert fragment_rows(made.atlas.tiles.schema) == 1 << 20  # 8 values: the most rows there may be
    assert fragment_rows(made.atlas.slides.schema) == 1 << 20


def test_an_index_takes_in_what_came_after_it(uri: str):
    made = MadeAtlas(uri)
    made.committer.commit([made.done("a")])
    made.writer.transact("tiles", lambda tiles: tiles.create_scalar_index("slide_id", "BTREE"))
    made.committer.commit([made.done("b", tiles=7)])
    made.release()
    left = maintain(uri, MaintainSettings(index="none"))
    assert "index" not in did(left)
    done = maintain(uri, NOW)
    assert did(done)["index"] == "7 rows into the indices of tiles"
    stats = Atlas.open(uri).tiles.stats.index_stats("slide_id_idx")
    assert (stats["num_indexed_rows"], stats["num_unindexed_rows"]) == (12, 0)


@pytest.mark.parametrize("commits", range(0, 20, 3))
def test_killed_between_two_commits_the_next_maintenance_goes_on(uri: str, commits: int):
    before = an_atlas(uri, left=1)
    with killed_after(commits):
        maintain(uri, NOW)
    maintain(uri, NOW)
    assert state_of(Atlas.open(uri)) == before
    assert verify(uri, vectors=True).findings == ()
    assert find_leftovers(uri)["tiles"].files == 0


def test_nothing_is_made_where_there_is_no_atlas(tmp_path: Path):
    with pytest.raises(AtlasNotFound):
        maintain(str(tmp_path / "nothing"), NOW)
    assert not (tmp_path / "nothing").exists()


def test_an_index_of_lances_own_is_built_once_where_it_is_asked_for(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(maintaining, "LEAST_ROWS", 300)
    made = MadeAtlas(uri)
    made.committer.commit([made.done("a", tiles=300)])
    made.release()
    column = vector_column(CARD.model_id)
    asked = MaintainSettings(index="ivf_rq")
    assert did(maintain(uri, asked))["index"] == f"IVF_RQ on {column}"
    assert "index" not in did(maintain(uri, asked))
    assert "index" not in did(maintain(uri, MaintainSettings()))
    (index,) = Atlas.open(uri).tiles.describe_indices()
    assert (index.index_type, index.num_rows_indexed) == ("IVF_RQ", 300)
    assert verify(uri, vectors=True).findings == ()


def test_an_unknown_kind_of_index_is_named():
    with pytest.raises(SettingError, match="index must be one of compact, ivf_rq,"):
        MaintainSettings(index="faiss")


@pytest.mark.parametrize("retention_s", [0, -1, float("nan"), float("inf")])
def test_a_retention_time_is_positive(retention_s: float):
    with pytest.raises(SettingError):
        MaintainSettings(retention_s=retention_s)
