"""What the one writer commits, exactly once, and what a writer that was paused can't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from microtome.atlas.schema import WORK
from microtome.atlas.tables import open_table, table_uri
from microtome.atlas.writer import Writer, open_writer
from microtome.errors import AtlasBusy, AtlasError, AtlasWriteFailed, LeaseLost, SettingError
from support import paused_writer
from support.object_store import ObjectStore
from support.paused_writer import CHANGES, row


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder, and a bucket."""
    if request.param == "folder":
        return str(tmp_path)
    s3: ObjectStore = request.getfixturevalue("s3")
    return s3.bucket()


def work(uri: str) -> dict[str, str]:
    """Status by slide id; a row that is there twice fails."""
    table = open_table(uri, "work")
    assert table is not None
    rows = table.to_table(columns=["slide_id", "status"]).to_pylist()
    assert len({one["slide_id"] for one in rows}) == len(rows), "a row is there twice"
    return {one["slide_id"]: one["status"] for one in rows}


def seen(uri: str) -> tuple[object, ...]:
    """All there is to see of `work`: rows, their ids and places, and the schema."""
    table = open_table(uri, "work")
    assert table is not None
    rows = table.scanner(
        columns=[*WORK.names, "_row_created_at_version"], with_row_id=True, with_row_address=True
    )
    facts = [(f.name, f.type, f.nullable, f.metadata) for f in table.schema]
    return rows.to_table().to_pylist(), facts, table.schema.metadata


def make(uri: str) -> None:
    """An atlas of one table with the rows a and b, in a file each."""
    with open_writer(uri, "test") as writer:
        writer.create("work", WORK)
        writer.append("work", row("a"))
        writer.append("work", row("b"))


def test_rows_come_change_and_go(place: str):
    make(place)
    with open_writer(place, "test") as writer:
        writer.upsert("work", pa.concat_tables([row("a", "failed"), row("c")]))
        writer.upsert("work", row("d").select(["work_id", "status"]), insert=False)
        writer.upsert("work", row("e"), delete_where="slide_id = 'b'")
        assert work(place) == {"a": "failed", "c": "done", "e": "done"}
        writer.update("work", {"status": "'empty'"}, "slide_id = 'c'")
        writer.delete("work", "slide_id = 'a'")
        assert work(place) == {"c": "empty", "e": "done"}
        assert writer.transact("work", lambda dataset: dataset.count_rows()) == 2


def test_the_second_writer_is_refused_and_the_next_is_not(place: str):
    busy = pytest.raises(AtlasBusy, match="index on ")
    with open_writer(place, "index"), busy, open_writer(place, "maintain"):
        pass
    with open_writer(place, "maintain"):
        pass


@pytest.mark.parametrize("ended", ["well", "badly"])
def test_only_a_writer_that_ended_badly_is_fenced_off(tmp_path: Path, ended: str):
    make(str(tmp_path))
    before = lance.dataset(table_uri(str(tmp_path), "work")).version
    with pytest.raises(AtlasWriteFailed), open_writer(str(tmp_path), "test"):
        raise AtlasWriteFailed("the answer never came")
    if ended == "well":
        with open_writer(str(tmp_path), "test"):
            pass
        before += 1
    with open_writer(str(tmp_path), "test"):
        pass
    assert lance.dataset(table_uri(str(tmp_path), "work")).version == before + (ended == "badly")


def test_a_fence_changes_nothing_that_can_be_seen(tmp_path: Path):
    make(str(tmp_path))
    uri = table_uri(str(tmp_path), "work")
    lance.dataset(uri).delete("slide_id = 'b'")
    lance.dataset(uri).create_scalar_index("slide_id", "BTREE")

    before = seen(str(tmp_path))
    with open_writer(str(tmp_path), "test") as writer:
        writer.fence("work")
    assert seen(str(tmp_path)) == before
    assert lance.dataset(uri).stats.index_stats("slide_id_idx")["num_unindexed_rows"] == 0


def test_a_fence_that_comes_too_late_rolls_nothing_back(tmp_path: Path):
    make(str(tmp_path))
    old = lance.dataset(table_uri(str(tmp_path), "work"))
    with open_writer(str(tmp_path), "test") as writer:
        writer.append("work", row("c"))
    nothing = lance.LanceOperation.Merge(
        [f.metadata for f in old.get_fragments()], old.lance_schema
    )
    with pytest.raises(OSError, match="preempted"):
        lance.LanceDataset.commit(old, nothing, read_version=old.version, max_retries=0)
    assert work(str(tmp_path)).keys() == {"a", "b", "c"}


def test_whatever_a_paused_writer_was_about_to_commit_fails(place: str):
    """It is stopped after its look at the lease; somebody takes over, works, and ends."""
    changes = CHANGES if "://" not in place else ("append", "upsert over a row", "delete")
    atlases = {change: f"{place}/{change.replace(' ', '-')}" for change in changes}
    for uri in atlases.values():
        make(uri)
    words = [word for pair in atlases.items() for word in pair]
    paused = subprocess.Popen(
        [sys.executable, paused_writer.__file__, *words], stdout=subprocess.PIPE
    )
    assert paused.stdout
    try:
        for change, uri in atlases.items():
            _, status = os.waitpid(paused.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), f"it ended before: {change}"
            time.sleep(paused_writer.SETTINGS.ttl_s)
            with open_writer(uri, "test") as writer:
                writer.append("work", row("c"))
            before = seen(uri)
            os.kill(paused.pid, signal.SIGCONT)
            assert (change, paused.stdout.readline()) == (change, b"lease-lost\n")
            assert (change, seen(uri)) == (change, before)
    finally:
        paused.kill()
        paused.wait()


def test_a_missing_table_is_said(tmp_path: Path):
    lost = pytest.raises(AtlasError, match="has lost its table work")
    with open_writer(str(tmp_path), "test") as writer, lost:
        writer.delete("work", "true")


def test_nothing_is_committed_by_a_writer_that_was_followed(tmp_path: Path):
    make(str(tmp_path))
    with open_writer(str(tmp_path), "test") as writer:
        follow(writer, tmp_path)
        with pytest.raises(LeaseLost):
            writer.append("work", row("c"))
    assert work(str(tmp_path)).keys() == {"a", "b"}


def test_a_writer_that_was_followed_learns_of_it_beside_the_tables(tmp_path: Path):
    with open_writer(str(tmp_path), "test") as writer:
        writer.check_lease()
        follow(writer, tmp_path)
        with pytest.raises(LeaseLost, match="took over"):
            writer.check_lease()


@pytest.mark.parametrize("table_is", ["fenced", "not yet"])
def test_a_writer_that_was_followed_while_it_made_an_index_learns_of_it(
    tmp_path: Path, table_is: str
):
    make(str(tmp_path))

    def index(dataset: lance.LanceDataset) -> None:
        follow(writer, tmp_path)
        if table_is == "fenced":
            fragments = [f.metadata for f in dataset.get_fragments()]
            nothing = lance.LanceOperation.Merge(fragments, dataset.lance_schema)
            lance.LanceDataset.commit(dataset.uri, nothing, read_version=dataset.version)
        dataset.create_scalar_index("slide_id", "BTREE")

    with open_writer(str(tmp_path), "test") as writer, pytest.raises(LeaseLost):
        writer.transact("work", index, unfenced=True)
    assert work(str(tmp_path)).keys() == {"a", "b"}


def follow(writer: Writer, folder: Path) -> None:
    """Make the epoch that somebody who takes over would make."""
    (folder / "_lease" / "000000000009.json").write_text("{}")


def test_credentials_in_the_uri_are_refused_unshown():
    with pytest.raises(SettingError) as caught, open_writer("s3://AKIA:hunter2@b/atlas", "test"):
        pass
    assert "hunter2" not in str(caught.value)
