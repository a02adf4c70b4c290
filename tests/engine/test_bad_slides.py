"""Every kind of bad slide in one folder, beside a good one: each has its own row in the ledger."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner, Result

from microtome import cli
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from microtome_jobs.made.slides import MadeSpec, make_slides
from support.made_tiffs import overwrite_tag

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

cli.load_apps()

# slide → how it ends, what the message says to do
ENDS = {
    "good.svs": ("done", ""),
    "blank.svs": ("empty", ""),
    "absurd.svs": ("implausible-dimensions", "copy the slide again"),
    "coarse.svs": ("too-coarse", "--mpp 4"),
    "damaged.svs": ("read-failed", "copy it again"),
    "dark.svs": ("not-brightfield", "Leave it out"),
    "endless.svs": ("implausible-dimensions", "copy the slide again"),
    "gone.svs": ("unreadable", "Check"),
    "no-mpp.svs": ("no-mpp", "--assume-mpp"),
    "photo.svs": ("unsupported-format", "vips tiffsave"),
    "text.svs": ("unreadable", "Copy it again"),
    "truncated.svs": ("truncated", "Copy it again"),
    "twin.svs": ("duplicate-content", "Leave out one"),
    "zero.svs": ("empty-file", "Copy it again"),
}


def fill(folder: Path) -> None:
    """Put every slide of `ENDS` into a folder."""
    made = make_slides(folder, MadeSpec(slides=1, side_px=1024))
    made.manifest.unlink()
    good = (folder / "case01-a.svs").rename(folder / "good.svs")
    for name in ("twin", "absurd", "endless", "damaged"):
        shutil.copy(good, folder / f"{name}.svs")
    overwrite_tag(folder / "absurd.svs", 256, lambda _: 1 << 21)  # ImageWidth
    overwrite_tag(folder / "endless.svs", 257, lambda _: 1 << 31)  # ImageLength
    wipe_tiles(folder / "damaged.svs")
    night = np.random.default_rng(0).integers(0, 40, (512, 512, 3), np.uint8)
    write_pyramid(folder / "dark.svs", night)
    write_pyramid(folder / "coarse.svs", night, PyramidSpec(mpp=4))
    Image.new("RGB", (64, 64)).save(folder / "photo.svs", "JPEG")
    (folder / "text.svs").write_text("Dear colleague,\n" * 9)
    (folder / "zero.svs").touch()
    (folder / "gone.svs").symlink_to("nowhere.svs")


def wipe_tiles(path: Path) -> None:
    """Overwrite the pixels of the finest level with zeros; the header stays right."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for offset, count in tiles:
            file.seek(offset)
            file.write(bytes(count))


def microtome(*words: str) -> Result:
    return CliRunner().invoke(cli.app, [*words, "--json"])


@dataclass(frozen=True)
class Job:
    """One `microtome index slides --atlas atlas`, typed in `folder`, and its ledger."""

    folder: Path
    result: Result
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("job")
    fill(folder / "slides")
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = microtome("index", "slides", "--atlas", "atlas", "--workers", "1")
        rows = json.loads(microtome("slides", "--atlas", "atlas").stdout)["slides"]
        yield Job(folder, result, {row["slide_id"]: row for row in rows})
    finally:
        os.chdir(before)


def test_every_slide_ends_with_its_own_cause(job: Job) -> None:
    found = {slide_id: row["cause"] or row["status"] for slide_id, row in job.rows.items()}

    assert found == {slide_id: end for slide_id, (end, _) in ENDS.items()}


@pytest.mark.parametrize("slide_id", [name for name, (_, remedy) in ENDS.items() if remedy])
def test_the_message_names_the_slide_and_what_to_do(job: Job, slide_id: str) -> None:
    message = job.rows[slide_id]["message"]

    assert slide_id in message.split(". ")[0]
    assert ENDS[slide_id][1] in message
    assert str(job.folder) not in message


def test_the_good_slide_is_searchable_and_nothing_else_is_there(job: Job) -> None:
    tile_counts = {slide_id: row["tiles"] for slide_id, row in job.rows.items() if row["tiles"]}

    assert tile_counts.keys() == {"good.svs"}
    facts = json.loads(microtome("info", "--atlas", "atlas").stdout)
    assert facts["tiles"] == tile_counts["good.svs"]


def test_the_job_tells_scripts_that_some_failed_and_how_many_of_each_cause(job: Job) -> None:
    counts = json.loads(job.result.stdout)
    failed = Counter(end for end, remedy in ENDS.values() if remedy)

    assert job.result.exit_code == 3
    assert (counts["wanted"], counts["done"], counts["empty"]) == (len(ENDS), 1, 1)
    assert counts["failed"] == failed


def test_the_job_tells_scripts_when_all_are_in(job: Job) -> None:
    again = microtome("index", "slides/good.svs", "slides/blank.svs", "--atlas", "atlas")

    counts = json.loads(again.stdout)
    assert again.exit_code == 0
    assert (counts["wanted"], counts["already_done"], counts["failed"]) == (2, 2, {})


def test_people_are_told_the_causes_and_where_to_read_more(job: Job) -> None:
    listing = CliRunner().invoke(cli.app, ["slides", "--atlas", "atlas", "--status", "failed"])

    words = " ".join(listing.output.split())
    assert "12 slides" in words
    assert all(slide_id in words for slide_id, (_, remedy) in ENDS.items() if remedy)
    assert "zero.svs holds no bytes. Copy it again from where it was scanned." in words
