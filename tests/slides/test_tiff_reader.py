"""The direct reader's pixels are OpenSlide's, bit for bit; tifffile's where OpenSlide refuses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from openslide import OpenSlide

from microtome.config import MppSettings
from microtome.models.registry import load_encoder
from microtome.slides.content import SlideFiles
from microtome.slides.slide import SlideRef
from microtome.slides.tiff_opening import open_tiff
from microtome.slides.tiff_reader import TiffReader
from microtome.slides.tiff_source import ByteRange, LocalFile
from support.made_tiffs import Kind, halved, overwrite_tag, picture, write_ome, write_tiff

TILE_OFFSETS, TILE_BYTE_COUNTS = 324, 325

APERIO = {"description": "Aperio Image Library\r\n301x203|AppMag = 40|MPP = 0.25"}
KINDS = {
    "ycbcr 4:2:0": Kind(),
    "ycbcr 4:2:2": Kind(subsampling=(2, 1)),
    "ycbcr 4:4:4": Kind(subsampling=(1, 1)),
    "shared tables": Kind(shared_tables=True),
    "aperio": Kind(shared_tables=True, header=APERIO),
    "aperio rgb": Kind(colours="rgb", shared_tables=True, header=APERIO),
    "rgb": Kind(colours="rgb"),
    "oblong tiles": Kind(tile=(48, 112)),
    "bigtiff": Kind(file={"bigtiff": True}),
    "deflate": Kind(compression="zlib"),
    "lzw": Kind(compression="lzw"),
    "no compression": Kind(compression=None),
    "jpeg 2000, rgb": Kind(compression=33005, header=APERIO),
    "jpeg 2000, ycbcr": Kind(compression=33003, header=APERIO),
}
WIDTH, HEIGHT = 301, 203
"""No multiple of any tile."""

Reference = Callable[[int, int, int, int, int], np.ndarray]


def opened(path: Path, cache_bytes: int = 1 << 20) -> TiffReader:
    files = SlideFiles(SlideRef(path.name, str(path)), (str(path),), "id", path.stat().st_size)
    settings = MppSettings(assume_mpp=0.25)
    return open_tiff(files, LocalFile(str(path), path.name), settings, cache_bytes)


def openslide_rgb(slide: OpenSlide) -> Reference:
    """OpenSlide's region, white where it is transparent."""

    def read(x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        rgba = np.asarray(slide.read_region((x, y), level, (width, height)))
        return np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])

    return read


def cut_from(pixels: np.ndarray) -> Reference:
    """A region of one level that lies in memory, white outside."""

    def read(x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        region = np.full((height, width, 3), 255, np.uint8)
        rows, columns = np.arange(y, y + height), np.arange(x, x + width)
        inside = np.ix_(
            (rows >= 0) & (rows < pixels.shape[0]), (columns >= 0) & (columns < pixels.shape[1])
        )
        kept = np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])
        region[inside] = pixels[kept]
        return region

    return read


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of every kind, level 1 exactly half as large as the even part of level 0."""
    folder = tmp_path_factory.mktemp("made")
    pixels = picture(HEIGHT, WIDTH)
    levels = [pixels, halved(pixels)]
    return {
        name: write_tiff(folder / f"{number}.tif", levels, kind)
        for number, (name, kind) in enumerate(KINDS.items())
    }


@pytest.mark.parametrize("kind", KINDS)
def test_any_region_equals_openslide(made: dict[str, Path], kind: str) -> None:
    with opened(made[kind]) as reader, OpenSlide(made[kind]) as slide:
        expected = openslide_rgb(slide)

        @settings(max_examples=40)
        @given(
            st.integers(-90, WIDTH + 20),
            st.integers(-90, HEIGHT + 20),
            st.integers(1, 200),
            st.integers(1, 200),
        )
        def check(x: int, y: int, width: int, height: int) -> None:
            region = reader.read_region(x, y, 0, width, height)
            np.testing.assert_array_equal(region, expected(x, y, 0, width, height))

        check()


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_openslides(made: dict[str, Path], kind: str) -> None:
    with opened(made[kind]) as reader, OpenSlide(made[kind]) as slide:
        sizes = tuple((level.width_px, level.height_px) for level in reader.slide.levels)
        assert sizes == slide.level_dimensions
        assert tuple(one.downsample for one in reader.slide.levels) == slide.level_downsamples
        whole = reader.read_region(0, 0, 1, *sizes[1])
        np.testing.assert_array_equal(whole, openslide_rgb(slide)(0, 0, 1, *sizes[1]))


def test_regions_of_the_real_svs_equal_openslide(real_data: Path) -> None:
    path = real_data / "wsi" / "CMU-1-Small-Region.svs"
    with opened(path) as reader, OpenSlide(path) as slide:
        expected = openslide_rgb(slide)
        size = reader.slide.width_px, reader.slide.height_px
        np.testing.assert_array_equal(
            reader.read_region(0, 0, 0, *size), expected(0, 0, 0, *size), "the whole slide"
        )
        for x, y, width, height in np.random.default_rng(3).integers(1, 700, (25, 4)).tolist():
            corner = 3 * x, 4 * y
            np.testing.assert_array_equal(
                reader.read_region(*corner, 0, width, height), expected(*corner, 0, width, height)
            )


@pytest.mark.parametrize("name", ["OS-1-detail.ome.tif", "OS-2-vsi.ome.tif"])
def test_regions_of_real_ome_tiff_equal_tifffile(real_data: Path, name: str) -> None:
    path = real_data / "wsi" / name
    expected = cut_from(tifffile.imread(path))
    with opened(path) as reader:
        for x, y, width, height in np.random.default_rng(4).integers(1, 900, (25, 4)).tolist():
            corner = 2 * x - 200, 2 * y - 200
            np.testing.assert_array_equal(
                reader.read_region(*corner, 0, width, height), expected(*corner, 0, width, height)
            )


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_big_endian_file_which_openslide_refuses_equals_tifffile(
    tmp_path: Path, bigtiff: bool
) -> None:
    kind = Kind(file={"byteorder": ">", "bigtiff": bigtiff})
    path = write_tiff(tmp_path / "big.tif", [picture(HEIGHT, WIDTH)], kind)
    with opened(path) as reader:
        whole = reader.read_region(0, 0, 0, WIDTH, HEIGHT)
    np.testing.assert_array_equal(whole, tifffile.imread(path))


@pytest.mark.parametrize("kind", [Kind(), Kind(compression="zlib"), Kind(colours="rgb")])
def test_levels_of_ome_tiff_are_its_sub_directories(tmp_path: Path, kind: Kind) -> None:
    pixels = picture(HEIGHT, WIDTH)
    path = write_ome(tmp_path / "made.ome.tif", [pixels, halved(pixels)], kind)
    with opened(path) as reader, tifffile.TiffFile(path) as tiff:
        assert len(reader.slide.levels) == 2
        for number, level in enumerate(tiff.series[0].levels):
            own = reader.slide.levels[number]
            np.testing.assert_array_equal(
                reader.read_region(0, 0, number, own.width_px, own.height_px), level.asarray()
            )


def test_every_level_pixel_can_be_asked_for(made: dict[str, Path]) -> None:
    """A level that isn't exactly half of level 0: its pixel i lies at level-0 pixel i × 2.01."""
    with opened(made["deflate"]) as reader:
        level = reader.slide.levels[1]
        whole = reader.read_region(0, 0, 1, level.width_px, level.height_px)
        for column in range(level.width_px):
            x = round(column * level.downsample)
            np.testing.assert_array_equal(
                reader.read_region(x, 0, 1, 1, 1)[0, 0], whole[0, column], str(column)
            )


@pytest.mark.parametrize(
    ("kind", "reductions"),
    [
        ("ycbcr 4:2:0", (1, 2, 4, 8)),
        ("aperio rgb", (1, 2, 4, 8)),
        ("jpeg 2000, rgb", (1,)),
        ("deflate", (1,)),
        ("no compression", (1,)),
    ],
)
def test_a_level_offers_what_its_decoder_can(
    made: dict[str, Path], kind: str, reductions: tuple[int, ...]
) -> None:
    with opened(made[kind]) as reader:
        assert reader.slide.levels[0].reductions == reductions


@pytest.mark.parametrize("kind", ["ycbcr 4:2:0", "ycbcr 4:4:4", "aperio rgb"])
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_region_is_the_mean_of_its_pixels(
    made: dict[str, Path], kind: str, reduction: int
) -> None:
    """Within 1.5 grey levels on average; a shift by a pixel would make 3 and more."""
    side = 192 // reduction
    with opened(made[kind]) as reader:
        full = reader.read_region(64, 8, 0, 192, 192).astype(float)
        mean = full.reshape(side, reduction, side, reduction, 3).mean(axis=(1, 3))
        reduced = reader.read_reduced(64, 8, 0, side, side, reduction=reduction)
    assert np.abs(reduced - mean).mean() < 1.5


def test_half_a_real_slide_looks_the_same_to_a_model(real_data: Path) -> None:
    """Shrunk by the decoder or by area: half a grey level apart, embeddings' cosine above 0.999."""
    corners = [(x, y) for y in (300, 900, 1800) for x in (200, 1100)]
    with opened(real_data / "wsi" / "CMU-1-Small-Region.svs") as reader:
        by_area = np.stack([halved(reader.read_region(*c, 0, 448, 448)) for c in corners])
        by_decoder = np.stack([reader.read_reduced(*c, 0, 224, 224, reduction=2) for c in corners])
    assert np.abs(by_area.astype(int) - by_decoder).mean() < 0.5
    encoder = load_encoder("starter")
    cosine = (encoder.encode(by_area) * encoder.encode(by_decoder)).sum(axis=1)
    assert cosine.min() > 0.999


def test_a_reduced_region_is_white_outside(made: dict[str, Path]) -> None:
    with opened(made["ycbcr 4:2:0"]) as reader:
        region = reader.read_reduced(WIDTH - 33, HEIGHT - 33, 0, 40, 40, reduction=2)
    assert (region[17:] == 255).all()
    assert (region[:, 17:] == 255).all()
    assert (region[:16, :16] < 255).all()


def test_tiles_without_bytes_are_white(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "sparse.tif", [picture(HEIGHT, WIDTH)])
    for tag in (TILE_OFFSETS, TILE_BYTE_COUNTS):
        overwrite_tag(
            path, tag, lambda values: [0 if i % 3 == 1 else v for i, v in enumerate(values)]
        )
    with opened(path) as reader, OpenSlide(path) as slide:
        region = reader.read_region(0, 0, 0, WIDTH, HEIGHT)
        np.testing.assert_array_equal(region, openslide_rgb(slide)(0, 0, 0, WIDTH, HEIGHT))
        assert (region[:64, 64:128] == 255).all()


def test_neighbours_share_their_tiles(made: dict[str, Path]) -> None:
    """Regions of 100 px, each 50 px further: every tile is fetched once."""
    with opened(made["ycbcr 4:2:0"]) as reader:
        before = reader.bytes_read
        for y in range(0, HEIGHT, 50):
            for x in range(0, WIDTH, 50):
                reader.read_region(x, y, 0, 100, 100)
        with tifffile.TiffFile(made["ycbcr 4:2:0"]) as tiff:
            assert reader.bytes_read - before == sum(tiff.pages[0].databytecounts)


def test_threads_see_the_same_pixels(made: dict[str, Path]) -> None:
    """With a cache of four tiles, so that they also take them from one another."""
    corners = [(x, y) for y in range(0, HEIGHT, 37) for x in range(0, WIDTH, 41)]
    with opened(made["ycbcr 4:2:0"], 4 * 64 * 64 * 3) as reader:
        whole = cut_from(reader.read_region(0, 0, 0, WIDTH, HEIGHT))
        with ThreadPoolExecutor(4) as pool:
            regions = list(pool.map(lambda c: reader.read_region(*c, 0, 90, 90), corners))
    for corner, region in zip(corners, regions, strict=True):
        np.testing.assert_array_equal(region, whole(*corner, 0, 90, 90))


@pytest.mark.parametrize(
    ("level", "width", "height", "reduction"),
    [(2, 9, 9, 1), (-1, 9, 9, 1), (0, 0, 9, 1), (0, 9, -1, 1), (0, 9, 9, 3), (0, 9, 9, 16)],
)
def test_regions_that_make_no_sense_are_refused(
    made: dict[str, Path], level: int, width: int, height: int, reduction: int
) -> None:
    with opened(made["aperio"]) as reader, pytest.raises(ValueError, match=r"no region|offers"):
        reader.read_reduced(0, 0, level, width, height, reduction=reduction)


def test_a_closed_reader_reads_no_more(made: dict[str, Path]) -> None:
    reader = opened(made["aperio"])
    reader.read_region(0, 0, 0, 9, 9)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_region(0, 0, 0, 9, 9)


def test_a_local_file_gives_ranges_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(bytes(range(100)))
    with LocalFile(str(path), "some") as source:
        assert source.read([ByteRange(90, 3), ByteRange(0, 2)]) == [b"Z[\\", b"\0\1"]
        assert source.bytes_read == 5
