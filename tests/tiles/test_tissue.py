from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from microtome.errors import NotBrightfield
from microtome.tiles.tissue import TissueMask, find_tissue
from support.array_slide import ArraySlide

GLASS, EOSIN, NUCLEI = (243, 242, 244), (225, 150, 190), (110, 70, 150)


def painted(colour=GLASS, side_px: int = 250) -> np.ndarray:
    """A picture of 8 µm pixels, 2 mm a side, with a scanner's noise."""
    noise = np.random.default_rng(0).normal(0, 2, (side_px, side_px, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def with_disc(pixels: np.ndarray, colour, diameter_um: float, centre=(125, 125)) -> np.ndarray:
    return cv2.circle(pixels.copy(), centre, round(diameter_um / 16), colour, -1)


def mask_of(pixels: np.ndarray, mpp: float = 8.0) -> np.ndarray:
    return find_tissue(ArraySlide(pixels, mpp=mpp, downsamples=(1,))).mask


@pytest.mark.parametrize("glass", [GLASS, (255, 255, 255), (225, 224, 222), (235, 238, 228)])
def test_blank_glass_holds_no_tissue(glass):
    assert not mask_of(painted(glass)).any()


@pytest.mark.parametrize(
    "colour", [EOSIN, NUCLEI, (240, 210, 225), (150, 110, 80), (140, 150, 175)],
    ids=["eosin", "nuclei", "pale", "DAB", "haematoxylin of IHC"],
)  # fmt: skip
def test_tissue_that_fills_the_picture_is_found_whole(colour):
    assert mask_of(painted(colour)).all()


def test_stroma_between_nuclei_is_not_parted_from_them():
    pixels = painted(EOSIN)
    pixels[::3, ::3] = NUCLEI
    assert mask_of(pixels).all()


def test_tissue_is_found_where_it_lies():
    area_mm2 = find_tissue(
        ArraySlide(with_disc(painted(), EOSIN, 1000), mpp=8.0, downsamples=(1,))
    ).area_mm2(8.0)
    assert area_mm2 == pytest.approx(np.pi * 0.5**2, rel=0.05)


@pytest.mark.parametrize(
    # µm across, whether it is kept as tissue
    ("diameter_um", "kept"), [(80, False), (200, True)],
)  # fmt: skip
def test_specks_are_dropped_by_their_size(diameter_um, kept):
    assert mask_of(with_disc(painted(), EOSIN, diameter_um)).any() == kept


@pytest.mark.parametrize(("diameter_um", "filled"), [(60, True), (200, True), (500, False)])
def test_holes_are_filled_up_to_a_size(diameter_um, filled):
    holed = with_disc(with_disc(painted(), EOSIN, 1500), GLASS, diameter_um)
    assert mask_of(holed)[125, 125] == filled


def test_glass_cut_by_the_edge_of_the_picture_is_no_hole():
    pixels = painted(EOSIN, side_px=40)
    pixels[:, :15] = GLASS
    assert not mask_of(pixels)[:, :12].any()


def test_a_line_such_as_a_coverslip_edge_is_no_tissue():
    assert not mask_of(cv2.line(painted(), (60, 0), (90, 249), (120, 120, 120), 2)).any()


@pytest.mark.parametrize(
    "ink",
    [(20, 120, 210), (40, 160, 130), (220, 20, 25), (25, 25, 30)],
    ids=["blue", "green", "red", "black"],
)
def test_ink_on_glass_is_no_tissue(ink):
    stroke = cv2.line(painted(), (20, 30), (220, 60), ink, 30)
    blurred = cv2.GaussianBlur(stroke, (0, 0), 2)
    assert mask_of(blurred).mean() < 0.02


def test_ink_over_tissue_takes_only_its_own_place():
    pixels = cv2.line(painted(EOSIN), (0, 125), (249, 125), (40, 160, 130), 40)
    mask = mask_of(pixels)
    assert not mask[107:143].any()
    assert mask[:100].all()
    assert mask[150:].all()


def test_the_mask_is_found_alike_on_a_level_and_on_level_0():
    small = with_disc(painted(), EOSIN, 1000)
    large = cv2.resize(small, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    one = find_tissue(ArraySlide(large, mpp=1.0, downsamples=(1,)))
    many = find_tissue(ArraySlide(large, mpp=1.0, downsamples=(1, 2, 8)))
    assert (one.mask == many.mask).all()
    assert one.downsample_x == many.downsample_x == 8


@pytest.mark.parametrize(
    "background", [(0, 0, 0), (4, 3, 8), (30, 30, 30)], ids=["black", "noise", "grey"]
)
def test_a_dark_picture_with_bright_nuclei_is_refused(background):
    nuclei = with_disc(painted(background), (60, 90, 255), 800)
    with pytest.raises(NotBrightfield, match="array is dark"):
        mask_of(nuclei)


def test_dense_tissue_without_any_glass_is_not_taken_for_fluorescence():
    assert mask_of(painted((90, 55, 120))).all()


def test_black_where_the_scanner_did_not_look_is_neither_tissue_nor_fluorescence():
    pixels = with_disc(painted(), EOSIN, 600, centre=(60, 60))
    pixels[:, 120:] = 0
    mask = mask_of(pixels)
    assert mask[60, 60]
    assert not mask[:, 120:].any()


# --- Fractions -----------------------------------------------------------------------------------


def slow_fraction(mask: TissueMask, x: int, y: int, size_px: int) -> float:
    """Pixel by pixel at level 0, for downsamples that are whole numbers."""
    every = np.kron(mask.mask, np.ones((int(mask.downsample_y), int(mask.downsample_x))))
    return every[y : y + size_px, x : x + size_px].sum() / size_px**2


@given(
    bits=st.integers(0, 2**20 - 1),
    downsample=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    corner=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    size_px=st.integers(1, 40),
)
def test_a_fraction_is_exact_to_parts_of_a_mask_pixel(bits, downsample, corner, size_px):
    pattern = np.array([bits >> i & 1 for i in range(20)], bool).reshape(4, 5)
    mask = TissueMask(pattern, *map(float, downsample))
    fraction = mask.fraction(np.array([corner]), size_px)
    assert fraction.dtype == np.float32
    assert fraction[0] == pytest.approx(slow_fraction(mask, *corner, size_px), abs=1e-6)


def test_fractions_at_places_between_mask_pixels():
    mask = TissueMask(np.array([[True, False], [False, False]]), 2.5, 2.5)
    corners = np.array([[0, 0], [1, 0], [2, 2], [3, 3]])
    # Of 2 × 2 px, the tissue's 2.5 px leave: all, 1.5 × 2, 0.5 × 0.5, nothing.
    assert mask.fraction(corners, 2).tolist() == pytest.approx([1, 0.75, 0.0625, 0])


def test_no_corners_have_no_fractions():
    mask = TissueMask(np.ones((2, 2), bool), 1, 1)
    assert mask.fraction(np.empty((0, 2), np.int64), 4).shape == (0,)


@pytest.mark.parametrize(
    ("mask", "downsample"),
    [(np.ones((2, 2)), 1.0), (np.ones(4, bool), 1.0), (np.ones((0, 3), bool), 1.0),
     (np.ones((2, 2), bool), 0.0)],
    ids=["no booleans", "one dimension", "no pixels", "no downsample"],
)  # fmt: skip
def test_a_mask_that_makes_no_sense_is_refused(mask, downsample):
    with pytest.raises(ValueError, match=r"must be|no such"):
        TissueMask(mask, downsample, downsample)


# --- Real pictures -------------------------------------------------------------------------------

QC_TILES = [
    # file, its µm per pixel (about), least and most tissue; looked at one by one
    ("tiles/almost-white-1.png", 0.5, 0.0, 0.0),
    ("tiles/almost-white-2.png", 0.5, 0.0, 0.05),  # one shred in a corner
    ("tiles/almost-white-ihc.png", 8.0, 0.0, 0.0),
    ("tiles/no-tissue.png", 0.5, 0.0, 0.0),
    ("tiles/no-tissue2.png", 0.5, 0.0, 0.0),
    ("tiles/no-tissue-line.png", 0.5, 0.0, 0.0),  # the edge of a coverslip, and its shade
    ("tiles/no-tissue-green-pen.png", 2.0, 0.0, 0.0),
    ("tiles/no-tissue-red-pen.png", 2.0, 0.0, 0.25),  # its pale rim is as pink as eosin
    ("tiles/very-low-nuclei-score-red-pen-level1.png", 2.0, 0.0, 0.25),  # that, on fat
    ("tiles/low-nuclei-score-level0.png", 0.5, 0.6, 1.0),  # fat: mostly empty cells
    ("tiles/very-low-nuclei-score-level0.png", 0.5, 0.98, 1.0),
    ("tiles/medium-nuclei-score-level0.png", 0.5, 0.98, 1.0),
    ("tiles/high-nuclei-score-level0.png", 0.5, 0.97, 1.0),
    ("tiles/high-nuclei-score-level2.png", 8.0, 0.12, 0.17),
    ("tiles/tissue-level2-1784-6289-5880-10386.png", 8.0, 0.65, 0.8),
    ("tiles/liver-level2-20914-13715-21714-14515.png", 8.0, 0.14, 0.18),
    ("tiles/liver-level2-57138-8209-57938-9009.png", 8.0, 0.65, 0.75),
    ("tiles/liver-level2-38626-13514-39426-14315.png", 8.0, 0.0, 0.0),
    ("tiles/kidney-ihc-level0-330-480-380-510.png", 8.0, 0.3, 0.45),  # blue-grey, no eosin
    ("tiles/high-nuclei-score-red-pen-level1.png", 2.0, 0.85, 0.95),
    ("pil-images-rgb/tcga-green-pen.png", 2.0, 0.75, 0.88),
    ("pil-images-rgb/tcga-red-pen.png", 2.0, 0.55, 0.7),
    ("pil-images-rgb/diagnostic-slide-thumb-rgb.png", 8.0, 0.4, 0.6),  # red, green, black pen
]


def opaque(path: Path) -> np.ndarray:
    picture = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "mpp", "least", "most"), QC_TILES, ids=[row[0] for row in QC_TILES]
)
def test_real_tiles(real_data: Path, name, mpp, least, most):
    mask = mask_of(opaque(real_data / "patches/histolab_qc_tiles" / name), mpp)
    assert least <= mask.mean() <= most
