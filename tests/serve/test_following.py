"""What is known of an atlas follows what becomes of it."""

from __future__ import annotations

import shutil
import time

import pytest

from microtome.errors import AtlasError
from microtome_serve import following
from microtome_serve.following import Followed, Mark
from support.made_atlas import MadeAtlas


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(following, "STALE_S", 600.0)  # however late its thread looks


@pytest.fixture
def uri(tmp_path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done("a")])
    made.release()
    return made.uri


@pytest.fixture
def followed(uri):
    made = Followed(uri, lambda atlas: atlas)
    yield made
    made.stop()


def until(holds):
    end = time.monotonic() + 60
    while True:
        try:
            if holds():
                return
        except AtlasError:
            pass
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)


def test_new_rows_are_seen_by_what_was_made_before(followed, uri):
    until(lambda: followed.current().tiles.count_rows() == 5)
    atlas = followed.current()
    made = MadeAtlas(uri)
    made.committer.commit([made.done("b")])
    made.release()

    until(lambda: atlas.tiles.count_rows() == 10)
    assert followed.current() is atlas


def test_a_table_that_has_not_changed_stays_open(followed):
    until(followed.current)
    tiles = followed.current().tiles
    time.sleep(0.2)

    assert followed.current().tiles is tiles


def test_an_atlas_that_is_gone_is_an_error_until_it_is_back(followed, uri, tmp_path):
    until(followed.current)
    shutil.move(uri, tmp_path / "aside")
    until(lambda: followed._made is None)
    with pytest.raises(AtlasError):
        followed.current()
    shutil.move(tmp_path / "aside", uri)

    until(lambda: followed.current().tiles.count_rows() == 5)


def test_another_atlas_in_its_place_is_made_anew(followed, uri):
    until(followed.current)
    atlas = followed.current()
    shutil.rmtree(uri)
    made = MadeAtlas(uri)
    made.committer.commit([made.done("x", tiles=7)])
    made.release()

    until(lambda: followed.current().tiles.count_rows() == 7)
    assert followed.current() is not atlas


# version and first file now, whether it can't be a later state of version 5 with file "a"
@pytest.mark.parametrize(
    ("version", "file", "another"),
    [(5, "a", False), (5, "b", True), (4, "a", True), (6, "a", False), (6, "b", False)],
)
def test_only_an_older_or_other_version_is_of_another_table(version, file, another):
    assert Mark(version, file).is_of_another(Mark(5, "a")) is another
