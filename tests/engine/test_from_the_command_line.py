"""Whole jobs as they are typed: interrupted, out of disk, on a real slide, and the demo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas
from microtome.config import MppSettings
from microtome.errors import AtlasError
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideRef
from microtome_jobs.demo import Demo, run_demo
from microtome_jobs.made.slides import MadeArchive, MadeSpec, make_slides

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

cli.load_apps()

PROGRAM = str(Path(sys.executable).with_name("microtome"))


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, words), "--json"])


def made(folder: Path, slides: int) -> MadeArchive:
    return make_slides(folder / "slides", MadeSpec(slides=slides, side_px=1024, bad=False))


@pytest.mark.slow
def test_ctrl_c_ends_the_job_keeps_what_was_committed_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    archive, atlas = made(tmp_path, slides=6), tmp_path / "atlas"
    words = ["index", archive.folder, "--atlas", atlas, "--stride-px", "64"]
    slowly = ["--wave-slides", "1", "--workers", "1", "--json"]

    job = subprocess.Popen(
        [PROGRAM, *map(str, words), *slowly],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job, as CI may be, ignores it and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    wait_for_a_slide(job, atlas)
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to every process of the job
    out, err = job.communicate(timeout=120)

    assert job.returncode == 130
    assert "interrupted" in err
    assert out == ""
    kept = tiles_by_slide(atlas)
    assert 1 <= len(kept) < 6
    assert statuses(atlas) == ["interrupted"]

    again = microtome(*words)

    assert again.exit_code == 0
    assert json.loads(again.stdout)["already_done"] == len(kept)
    assert len(tiles_by_slide(atlas)) == 6
    assert kept.items() <= tiles_by_slide(atlas).items()
    assert statuses(atlas) == ["interrupted", "finished"]


def wait_for_a_slide(job: subprocess.Popen[str], atlas: Path) -> None:
    """Return once the ledger of a running job holds a slide."""
    while not (atlas.exists() and ledger_rows(atlas)):
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)


def ledger_rows(atlas: Path) -> int:
    try:
        return Atlas.open(str(atlas)).work.count_rows()
    except AtlasError:  # it is being made
        return 0


def tiles_by_slide(atlas: Path) -> dict[str, int]:
    ids = Atlas.open(str(atlas)).tiles.to_table(columns=["slide_id"])["slide_id"]
    return {count["values"]: count["counts"] for count in ids.value_counts().to_pylist()}


def statuses(atlas: Path) -> list[str]:
    runs = Atlas.open(str(atlas)).runs.to_table(columns=["run_id", "status"]).sort_by("run_id")
    return runs["status"].to_pylist()


def test_a_full_disk_is_told_and_once_there_is_room_nothing_was_lost(
    tmp_path_factory: pytest.TempPathFactory, tiny_disk: Path
) -> None:
    archive = made(tmp_path_factory.mktemp("archive"), slides=1)
    words = ["index", archive.folder, "--atlas", tiny_disk / "atlas"]
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(170_000))  # there is room for empty tables, but for no tiles

    full = microtome(*words)
    filler.unlink()
    enlarge(tiny_disk)
    again = microtome(*words)

    error = json.loads(full.stdout)["error"]
    assert full.exit_code == 1
    assert error["cause"] == "atlas-write-failed"
    assert error["message"].endswith(f"to the atlas {tiny_disk / 'atlas'}: the disk is full")
    assert "run again" in error["remedy"]
    assert again.exit_code == 0
    assert json.loads(again.stdout)["done"] == 1


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


@pytest.fixture(scope="module")
def real_slide(real_data: Path) -> Path:
    return real_data / "wsi" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="module")
def real_atlas(
    real_slide: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None
) -> Path:
    """An atlas of the real slide, made with every setting left at its default."""
    atlas = tmp_path_factory.mktemp("real") / "atlas"
    done = microtome("index", real_slide, "--atlas", atlas)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["done"] == 1
    return atlas


@pytest.fixture(scope="module")
def places(real_atlas: Path) -> list[tuple[int, int]]:
    """Corners of tiles of the real slide, in reading order."""
    tiles = Atlas.open(str(real_atlas)).tiles.to_table(columns=["x", "y"])
    return sorted(zip(*tiles.to_pydict().values(), strict=True), key=lambda corner: corner[::-1])


@pytest.mark.parametrize("number", [5, 20, 35])
def test_a_crop_of_a_real_slide_finds_its_place(
    real_slide: Path,
    real_atlas: Path,
    places: list[tuple[int, int]],
    tmp_path: Path,
    number: int,
) -> None:
    x, y = places[number]
    with open_slide(SlideRef(real_slide.name, str(real_slide)), MppSettings()) as reader:
        pixels = np.asarray(reader.read_region(x, y, 0, 224, 224))
    Image.fromarray(pixels).save(tmp_path / "crop.png")

    found = microtome("search", tmp_path / "crop.png", "--atlas", real_atlas, "-k", "1")

    (hit,) = json.loads(found.stdout)["hits"]
    assert found.exit_code == 0
    assert (hit["slide_id"], hit["x"], hit["y"]) == (real_slide.name, x, y)


def test_a_region_of_a_real_slide_gives_a_gallery_and_json(
    real_slide: Path, real_atlas: Path, places: list[tuple[int, int]], tmp_path: Path
) -> None:
    x, y = places[20]
    query, page = f"{real_slide}#{x},{y},448,448", tmp_path / "hits.html"

    words = ["--atlas", real_atlas, "--where", "tissue > 0.5", "-k", "3", "--gallery", page]
    found = microtome("search", query, *words)

    hits = json.loads(found.stdout)["hits"]
    assert found.exit_code == 0
    assert len(hits) == 3
    assert overlaps(hits[0], x, y, 448)
    assert all(hit["tissue"] > 0.5 for hit in hits)
    assert page.read_text().count("data:image/jpeg;base64,") == 4  # the query and its hits


def overlaps(hit: dict[str, Any], x: int, y: int, side_px: int) -> bool:
    return all(
        hit[axis] < start + side_px and start < hit[axis] + hit["size_px"]
        for axis, start in (("x", x), ("y", y))
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Demo:
    spec = MadeSpec(slides=4, side_px=2048)
    return run_demo(tmp_path_factory.mktemp("demo"), spec, lambda step: None)


def test_the_demo_finds_tissue_of_the_querys_type(demo: Demo) -> None:
    asked = [answer.tissue for answer in demo.answers]
    right = sum(answer.right for answer in demo.answers)
    hits = sum(len(answer.result.hits) for answer in demo.answers)

    assert len(asked) == len(set(asked)) >= 4
    assert right > 0.8 * hits > 0


def test_the_demo_meets_its_bad_slides(demo: Demo) -> None:
    assert (demo.summary.done, demo.summary.empty) == (4, 1)
    assert dict(demo.summary.failed) == {"truncated": 1, "no-mpp": 1}


def test_the_demo_leaves_pictures_to_look_at(demo: Demo) -> None:
    overview, *pages = demo.galleries

    assert Image.open(overview).height > 150 * len(demo.answers)
    assert len(pages) == len(demo.answers)
    assert all("data:image/jpeg;base64," in page.read_text() for page in pages)
