from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
from openslide import OpenSlide, OpenSlideError

from microtome_jobs.made.slides import MadeSpec, make_slides
from microtome_jobs.made.textures import TISSUES
from microtome_jobs.made.truth import load_truth

TILE_PX = 224


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_slides(tmp_path_factory.mktemp("made"), MadeSpec(seed=7, slides=6, side_px=2048))


@pytest.fixture(scope="module")
def tiles(archive):
    """Tiles of one tissue, by (tissue, slide): {(str, str): [(224, 224, 3) uint8, …]}."""
    truth = load_truth(archive.folder)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for slide_id in archive.slide_ids:
        with OpenSlide(archive.folder / f"{slide_id}.svs") as slide:
            for x in range(0, 2048 - TILE_PX, 160):
                for y in range(0, 2048 - TILE_PX, 160):
                    tissue, share = truth.type_at(slide_id, x, y, TILE_PX)
                    if share > 0.9:
                        tile = slide.read_region((x, y), 0, (TILE_PX, TILE_PX)).convert("RGB")
                        found.setdefault((tissue, slide_id), []).append(np.asarray(tile))
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_seed_same_bytes(tmp_path):
    spec = MadeSpec(seed=3, slides=2, side_px=1024)
    first = files_of(make_slides(tmp_path / "one", spec).folder)
    assert first == files_of(make_slides(tmp_path / "two", spec).folder)


def test_other_seed_other_slides(tmp_path):
    first, second = (
        files_of(make_slides(tmp_path / str(seed), MadeSpec(seed, 1, 512, bad=False)).folder)
        for seed in (0, 1)
    )
    assert first["case01-a.svs"] != second["case01-a.svs"]


def test_slides_open_with_their_header(archive):
    for slide_id in archive.slide_ids:
        with OpenSlide(archive.folder / f"{slide_id}.svs") as slide:
            assert list(slide.level_dimensions) == [(2048, 2048), (512, 512), (128, 128)]
            assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 0.5
            assert slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER] == "20"


def test_folder_holds_what_a_job_expects(archive):
    names = {f"{slide_id}.svs" for slide_id in (*archive.slide_ids, *archive.bad_ids)}
    assert {path.name for path in archive.folder.iterdir()} == names | {"manifest.csv", "truth"}


def test_manifest_names_every_slide(archive):
    with archive.manifest.open(newline="") as file:
        rows = {row["slide_id"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*archive.slide_ids, *archive.bad_ids]
    assert {rows[slide_id]["site"] for slide_id in archive.slide_ids} == {"north", "south"}
    assert [rows[slide_id]["case_id"] for slide_id in archive.slide_ids] == [
        *("case01", "case01", "case02", "case02", "case03", "case03")
    ]


def test_callback_hears_of_every_slide_in_order(tmp_path):
    heard: list[str] = []
    make_slides(tmp_path, MadeSpec(slides=1, side_px=512), heard.append)
    assert heard == ["case01-a", "blank", "truncated", "no-mpp"]


def test_every_tissue_lies_on_three_slides_of_two_cases(tiles):
    for tissue in TISSUES:
        slides = {slide_id for name, slide_id in tiles if name == tissue}
        assert len(slides) >= 3
        assert len({slide_id.removesuffix(slide_id[-2:]) for slide_id in slides}) >= 2


@pytest.mark.parametrize(
    ("quantity", "more", "less"),
    [
        ("dark", "lymphoid", "tumour"),
        ("dark", "tumour", "gland"),
        ("dark", "gland", "stroma"),
        ("dark", "gland", "adipose"),
        ("white", "adipose", "gland"),
        ("white", "gland", "tumour"),
        ("pink", "stroma", "gland"),
        ("pink", "gland", "mucin"),
    ],
)
def test_pixels_show_the_tissue_that_the_truth_names(tiles, quantity, more, less):
    """Not the layout against itself: the share of nuclear, empty and pink pixels in the picture."""

    def share(tissue: str) -> float:
        pixels = np.concatenate([np.stack(t) for (name, _), t in tiles.items() if name == tissue])
        red, green = pixels[..., 0].astype(int), pixels[..., 1].astype(int)
        chosen = {
            "dark": red < 110,
            "white": np.minimum(red, green) > 215,
            "pink": red - green > 50,
        }
        return float(chosen[quantity].mean())

    assert share(more) > 1.2 * share(less)


def test_nearest_neighbour_in_another_case_is_of_the_same_tissue(tiles):
    """Plain statistics find the tissue across stain styles, so a search has a fair task."""
    rows = [(key, statistics(tile)) for key, group in tiles.items() for tile in group[::3]]
    features = np.array([row for _, row in rows])
    features = (features - features.mean(0)) / features.std(0)
    tissues = np.array([tissue for (tissue, _), _ in rows])
    cases = np.array([slide_id[:6] for (_, slide_id), _ in rows])
    square = (features**2).sum(1)
    distance = square[:, None] + square - 2 * features @ features.T
    distance[cases[:, None] == cases] = np.inf
    assert (tissues[distance.argmin(1)] == tissues).mean() > 0.95


def statistics(tile: np.ndarray) -> list[float]:
    """Mean and spread of the colours, and of the grey gradient at three scales."""
    row = [*tile.mean((0, 1)), *tile.std((0, 1))]
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(np.float32)
    for shrink in (1, 2, 4):
        small = cv2.resize(grey, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        gradient = np.hypot(*np.gradient(small))
        row += [gradient.mean(), gradient.std()]
    return row


def test_one_tissue_differs_in_colour_between_sites(tiles):
    mean = {
        slide_id: np.mean(group, axis=(0, 1, 2))
        for (tissue, slide_id), group in tiles.items()
        if tissue == "stroma"
    }
    assert np.abs(mean["case01-a"] - mean["case02-a"]).max() > 3


def test_blank_is_glass_with_a_little_noise(archive):
    with OpenSlide(archive.folder / "blank.svs") as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    assert pixels.min() > 220
    assert 0.3 < pixels.std(axis=(0, 1)).max() < 5


def test_truncated_cannot_be_read_to_its_end(archive):
    with pytest.raises(OpenSlideError), OpenSlide(archive.folder / "truncated.svs") as slide:
        slide.read_region((0, 0), 0, slide.dimensions)


def test_slide_without_mpp_has_tissue_and_no_mpp(archive):
    with OpenSlide(archive.folder / "no-mpp.svs") as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        assert openslide.PROPERTY_NAME_MPP_X not in slide.properties
    assert (pixels.min(axis=2) < 200).mean() > 0.2


@pytest.mark.parametrize("wrong", [{"slides": 0}, {"side_px": 500}, {"side_px": 256}])
def test_wrong_spec_is_refused(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        MadeSpec(**wrong)
