"""An indexing job that is killed anywhere and run again ends as one that wasn't.

All of the job but Ray, slides and model, in a process of its own: see `support.bare_index`.
MICROTOME_KILLS sets how many random moments are tried; with it every durable step has its turn.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.orphans import find_leftovers, remove_leftovers
from microtome.atlas.verify import verify
from microtome.atlas.writer import open_writer
from microtome.errors import AtlasNotFound
from support.bare_index import bare_index, index_watched, write_archive
from support.killing import Ended, Moment, Side, run_until
from support.made_atlas import CARD
from support.same_atlas import rows_of

KILLS = int(os.environ.get("MICROTOME_KILLS", "50"))
LONG = "MICROTOME_KILLS" in os.environ
EVERY_STEP = 1 if LONG else 10

FIRST: dict[str, dict[str, Any]] = {
    "kept": {"content": "kept", "tiles": 5},
    "changed": {"content": "old", "tiles": 7},
    "blanked": {"content": "tissue", "tiles": 4},
    "filled": {"content": "glass", "tiles": 0},
    "spoilt": {"content": "whole", "tiles": 3},
    "moved": {"content": "moved", "tiles": 6},
    "unreadable": {"cause": "unreadable"},
    "truncated": {"cause": "truncated"},
    "mended": {"cause": "unreadable"},
}
NOW = FIRST | {
    "changed": {"content": "new", "tiles": 9},
    "blanked": {"content": "bleached", "tiles": 0},
    "filled": {"content": "found", "tiles": 2},
    "spoilt": {"cause": "truncated"},
    "a copy": FIRST["kept"],
    "moved away": FIRST["moved"],
    "mended": {"content": "mended", "tiles": 8},
    "blank": {"content": "blank", "tiles": 0},
    **{f"new {letter}": {"content": letter, "tiles": 4 + n} for n, letter in enumerate("abcd")},
}
del NOW["moved"]

Start = Literal["nothing", "an atlas"]


@dataclass(frozen=True)
class World:
    """What the job finds, and what it should make of it.

    Attributes:
        archive: the slides.
        starts: for each kind of start a folder with the atlas, or one that doesn't exist.
        ends: for each, the rows of the tables after an uninterrupted run.
        ran: for each, that run.
    """

    archive: Path
    starts: dict[Start, Path]
    ends: dict[Start, dict[str, Any]]
    ran: dict[Start, Ended]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    archive, before = folder / "slides", folder / "before"
    write_archive(archive, FIRST, second=1000)
    bare_index(archive, str(before))
    write_archive(archive, NOW, second=2000)
    os.utime(archive / "kept.svs", (2000, 2000))  # looks changed and isn't
    made = World(archive, {"nothing": folder / "absent", "an atlas": before}, {}, {})
    for start in get_args(Start):
        atlas = copy_of(made, start, folder / f"after {start}")
        made.ran[start] = run_until(Moment(), index_watched, archive, str(atlas))
        made.ends[start] = rows_of(str(atlas))
        assert verify(str(atlas), vectors=True).holds
    return made


def copy_of(world: World, start: Start, place: Path) -> Path:
    if world.starts[start].exists():
        shutil.copytree(world.starts[start], place)
    return place


def index_until(moment: Moment, world: World, atlas: Path) -> Ended:
    """Run the job until then; whatever it left, no slide is there in part."""
    ended = run_until(moment, index_watched, world.archive, str(atlas))
    try:
        tiles = Atlas.open(str(atlas)).tiles.to_table(columns=["slide_id"])
    except AtlasNotFound:
        return ended
    for name, count in Counter(tiles["slide_id"].to_pylist()).items():
        slide = name.removesuffix(".svs")
        whole = [said[slide].get("tiles") for said in (FIRST, NOW) if slide in said]
        assert count in whole, f"{count} tiles of {slide} after a kill {ended.where}"
    return ended


def finish(world: World, start: Start, atlas: Path, told: str) -> None:
    """Run the job to its end; the atlas is what it would have been, and nothing else is left."""
    bare_index(world.archive, str(atlas))
    assert rows_of(str(atlas)) == world.ends[start], told
    assert not verify(str(atlas), vectors=True).broken, told
    with open_writer(str(atlas), "test") as writer:
        remove_leftovers(writer)
    assert not any(left.paths for left in find_leftovers(str(atlas)).values()), told
    assert rows_of(str(atlas)) == world.ends[start], told


@pytest.mark.parametrize("start", get_args(Start))
def test_the_uninterrupted_run_sees_every_kind_of_slide(world: World, start: Start) -> None:
    tables = world.ends[start]
    became = {row["slide_id"]: row["cause"] or row["status"] for row in tables["work"]}

    assert Counter(became.values()) == {
        "done": 9,
        "empty": 2,
        "unreadable": 1,
        "truncated": 2,
        "duplicate-content": 1,
    }
    assert len(tables["tiles"]) == sum(row["tiles"] for row in tables["slides"])
    assert f"vector_{CARD.model_id}" in tables["tiles"][0]


@pytest.mark.parametrize(
    ("start", "side", "first"),
    [
        ("nothing", "before", 0),
        ("nothing", "after", 1),
        ("an atlas", "before", 2),
        ("an atlas", "after", 3),
    ],
)
def test_killed_at_a_durable_step_and_run_again_it_ends_the_same(
    world: World, start: Start, side: Side, first: int, tmp_path: Path
) -> None:
    steps = world.ran[start].steps
    for number in range(first % EVERY_STEP, len(steps), EVERY_STEP):
        atlas = copy_of(world, start, tmp_path / str(number))
        ended = index_until(Moment(number, side), world, atlas)
        assert ended.killed
        finish(world, start, atlas, f"killed {side} step {number} of {len(steps)}, {steps[number]}")


@pytest.mark.parametrize("start", get_args(Start))
def test_killed_again_and_again_it_still_ends_the_same(
    world: World, start: Start, tmp_path: Path
) -> None:
    atlas = copy_of(world, start, tmp_path / "atlas")
    kills = [index_until(Moment(step, "after"), world, atlas) for step in range(1, 40, 6)]

    assert sum(ended.killed for ended in kills) >= 5
    finish(world, start, atlas, "killed again and again")


@pytest.mark.timeout(1200)
def test_killed_at_random_moments_and_run_again_it_ends_the_same(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(20261122)
    where: Counter[str] = Counter()
    moments, begun_s = 0, time.monotonic()
    while moments < KILLS:
        start = chance.choice(get_args(Start))
        atlas = copy_of(world, start, tmp_path / f"atlas {moments}")
        told = f"after {moments} kills"
        again = True
        while again:
            after_s = chance.uniform(0, world.ran[start].seconds)
            ended = index_until(Moment(after_s=after_s), world, atlas)
            moments += ended.killed
            where[ended.where] += ended.killed
            told += f", then {after_s:.3f} s into the job, {ended.where}"
            again = chance.random() < (0.25 if LONG else 0.6)
        finish(world, start, atlas, told)
        shutil.rmtree(atlas)

    if LONG:
        with capsys.disabled():
            seconds = time.monotonic() - begun_s
            print(f"\n{moments} kills at random moments, mismatches 0, {seconds:.0f} s; killed in")
            for step, count in where.most_common():
                print(f"{count:5} {step}")
