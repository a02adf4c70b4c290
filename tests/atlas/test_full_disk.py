"""A disk that is full at some moment of a job: what is there stays right, the next run goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from microtome.atlas.recovery import recover
from microtome.errors import AtlasWriteFailed
from support.made_atlas import MadeAtlas, content_id


def job(uri: str) -> MadeAtlas:
    """A run of one slide, whose tiles take some 90 KB."""
    made = MadeAtlas(uri)
    recover(made.writer, made.atlas)
    made.committer.commit([made.done("a", tiles=2000)])
    return made


@pytest.mark.parametrize(
    # in KB of 256, so that the disk is full at some commit, or at the fragments (150)
    "taken",
    [95, 100, 105, 150, 190, 200, 210, 220, 230, 240, 248, 254],
)
def test_the_disk_is_full_and_then_there_is_room(tiny_disk: Path, taken: int):
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(taken * 1000))

    with pytest.raises(AtlasWriteFailed, match="the disk is full"):
        job(str(tiny_disk / "atlas"))
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", str(tiny_disk)], check=True)

    assert job(str(tiny_disk / "atlas")).state() == {"a": (content_id("a"), 2000, "done", 2000)}
