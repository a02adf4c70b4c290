"""A file of a table that is damaged or gone: every reader says which table, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from microtome.atlas.commit import Committer
from microtome.atlas.presence import find_tiles
from microtome.atlas.reading import list_slides
from microtome.atlas.recovery import recover
from microtome.errors import AtlasDamaged, AtlasWriteFailed
from support.made_atlas import MadeAtlas


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:64] + bytes(len(whole) - 128) + whole[-64:])


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done("a", tiles=500)])
    return made


@pytest.mark.parametrize("harm", [cut, garble, Path.unlink])
@pytest.mark.parametrize(
    ("table", "read"),
    [
        ("tiles", lambda made: find_tiles(made.atlas, ["a"])),
        ("tiles", lambda made: made.committer.commit([made.done("a", "new")])),
        ("slides", lambda made: Committer(made.writer, made.atlas, made.run_id, "m")),
        ("slides", lambda made: recover(made.writer, made.atlas)),
        ("work", lambda made: list_slides(made.atlas)),
    ],
)
def test_a_damaged_file_is_said_with_its_table(
    made: MadeAtlas,
    table: str,
    read: Callable[[MadeAtlas], object],
    harm: Callable[[Path], None],
):
    (file,) = Path(made.uri, f"{table}.lance", "data").iterdir()
    harm(file)
    with pytest.raises(AtlasDamaged) as caught:
        read(made)
    what = "gone" if harm is Path.unlink else "damaged"
    assert caught.value.message == (
        f"the table {table} of the atlas {made.uri} can't be read: one of its files is {what}"
    )
    assert f"microtome verify --atlas {made.uri}" in caught.value.remedy


def test_a_commit_that_has_to_read_what_is_damaged_fails_as_one(made: MadeAtlas):
    (file,) = Path(made.uri, "runs.lance", "data").iterdir()
    cut(file)
    with pytest.raises(AtlasWriteFailed, match=r"the table runs .* one of its files is damaged"):
        made.writer.update("runs", {"status": "'failed'"}, "status = 'running'")
