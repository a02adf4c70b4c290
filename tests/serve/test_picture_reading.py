from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.errors import (
    SettingError,
    SlideChanged,
    SlideUnknown,
    SlideUnreadable,
    TileNotFound,
)
from microtome_serve.access import Access
from microtome_serve.deepzoom import TileAddress
from microtome_serve.open_slides import OpenSlides, SlideFile
from microtome_serve.picture_reading import Look, PictureReader
from microtome_serve.visible_rows import PageWanted
from support.coloured_atlas import COLOURS
from support.served_atlas import BY_ID, GRID, SITES, index_served

EVERYTHING = Access("open", "reader")
NORTH = Access("north", "reader", "site = 'north'")
NOTHING = Access("nothing", "reader", "false")
ODD_IDS = [
    "",
    "..",
    "../north/a",
    "north/../north/a",
    "/etc/passwd",
    "north/a.svs",
    "north/a\0",
    "NORTH/A",
    "north/a' OR '1'='1",
    "%6eorth/a",
    "x" * 100_000,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    index_served(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(folder):
    return PictureReader(Atlas.open(str(folder / "atlas")))


@pytest.fixture
def own(tmp_path):
    """Slides and an atlas that a test may spoil."""
    index_served(tmp_path)
    return tmp_path, PictureReader(Atlas.open(str(tmp_path / "atlas")))


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))


def tiles_of(folder):
    return Atlas.open(str(folder / "atlas")).rows("tiles").to_pylist()


@pytest.mark.parametrize(("form", "kind"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_a_tile_shows_its_own_place_in_each_format(folder, pictures, form, kind):
    for tile in tiles_of(folder):
        picture = pictures.tile_picture(EVERYTHING, tile["tile_id"], Look(form))
        assert Image.open(io.BytesIO(picture.data)).format == kind
        pixels = pixels_of(picture)
        assert pixels.shape == (GRID.tile_px, GRID.tile_px, 3)
        colour = COLOURS[BY_ID[tile["slide_id"]].colour_at(tile["x"], tile["y"])]
        assert np.abs(pixels.mean(axis=(0, 1)) - colour).max() < 15


@pytest.mark.parametrize("size", [16, 63, 200])
def test_a_tile_comes_in_the_size_that_is_wanted(folder, pictures, size):
    tile = tiles_of(folder)[0]
    pixels = pixels_of(pictures.tile_picture(EVERYTHING, tile["tile_id"], Look("png", size)))
    assert pixels.shape == (size, size, 3)
    colour = COLOURS[BY_ID[tile["slide_id"]].colour_at(tile["x"], tile["y"])]
    assert np.abs(pixels.mean(axis=(0, 1)) - colour).max() < 15


@pytest.mark.parametrize(("form", "size"), [("gif", None), ("png", 15), ("png", 1025)])
def test_a_look_that_cannot_be_is_refused(form, size):
    with pytest.raises(SettingError, match=r"format|size"):
        Look(form, size)


def test_deep_zoom_tiles_show_the_slide(pictures):
    quilt = BY_ID["north/a"]
    picture = pictures.deepzoom_tile(EVERYTHING, "north/a", TileAddress(8, 0, 0), Look("png"))
    assert np.abs(pixels_of(picture).astype(int) - quilt.pixels()).mean() < 6
    assert b'Width="128" Height="192"' in pictures.descriptor(EVERYTHING, "north/a").encode()


@pytest.mark.parametrize("address", [(9, 0, 0), (8, 1, 0), (8, 0, 1), (-1, 0, 0), (8, 2**31, 0)])
def test_there_are_no_tiles_outside_of_a_slide(pictures, address):
    with pytest.raises(SlideUnknown):
        pictures.deepzoom_tile(EVERYTHING, "north/a", TileAddress(*address), Look())


def test_a_slide_without_coarse_levels_is_shown_by_its_thumbnail(pictures, monkeypatch):
    monkeypatch.setattr("microtome_serve.deepzoom.MOST_READ_PX", 1)
    picture = pictures.deepzoom_tile(EVERYTHING, "north/a", TileAddress(8, 0, 0), Look("png"))
    shown = pixels_of(picture)
    assert shown.shape == (192, 128, 3)
    assert np.abs(shown.astype(int) - BY_ID["north/a"].pixels()).mean() < 10


def test_the_thumbnail_is_the_one_that_was_kept(pictures):
    picture = pictures.thumbnail(EVERYTHING, "south/c")
    assert picture.media_type == "image/jpeg"
    assert np.abs(pixels_of(picture).astype(int) - BY_ID["south/c"].pixels()).mean() < 6


def test_what_the_client_has_is_not_sent_again(folder, pictures):
    tile = tiles_of(folder)[0]["tile_id"]
    asks = [
        lambda known: pictures.thumbnail(EVERYTHING, "north/a", known),
        lambda known: pictures.tile_picture(EVERYTHING, tile, Look(), known),
        lambda known: pictures.deepzoom_tile(
            EVERYTHING, "north/a", TileAddress(8, 0, 0), Look(), known
        ),
    ]
    for ask in asks:
        first = ask("")
        assert ask(f'W/"other", {first.etag}') == type(first)(None, first.media_type, first.etag)
        assert ask('"other"').data == first.data


def test_each_picture_has_an_etag_of_its_own(folder, pictures):
    tile = tiles_of(folder)[0]["tile_id"]
    looks = [Look(), Look("png"), Look("png", 32)]
    etags = [pictures.tile_picture(EVERYTHING, tile, look).etag for look in looks]
    etags += [
        pictures.deepzoom_tile(EVERYTHING, "north/a", TileAddress(*address), Look(form)).etag
        for address, form in [((8, 0, 0), "png"), ((8, 0, 0), "jpeg"), ((7, 0, 0), "png")]
    ]
    assert len(set(etags)) == len(etags)


@pytest.mark.parametrize("slide_id", ODD_IDS)
def test_an_id_is_a_text_and_never_a_place(pictures, slide_id):
    for ask in slide_asks(pictures, slide_id):
        with pytest.raises(SlideUnknown):
            ask(EVERYTHING)


def slide_asks(pictures, slide_id):
    return [
        lambda access: pictures.rows.slide(access, slide_id),
        lambda access: pictures.thumbnail(access, slide_id),
        lambda access: pictures.descriptor(access, slide_id),
        lambda access: pictures.deepzoom_tile(access, slide_id, TileAddress(0, 0, 0), Look()),
    ]


@pytest.mark.parametrize("tile_id", ["", "0" * 31, "0" * 32, "../" * 10 + "ab", "' OR 1=1 --", "é"])
def test_an_unknown_tile_is_not_found(pictures, tile_id):
    for ask in (pictures.rows.tile, lambda *given: pictures.tile_picture(*given, Look())):
        with pytest.raises(TileNotFound):
            ask(EVERYTHING, tile_id)


def test_what_is_not_for_them_is_as_if_it_were_not_there(folder, pictures):
    def told(ask, access):
        with pytest.raises((SlideUnknown, TileNotFound)) as caught:
            ask(access)
        return type(caught.value), str(caught.value)

    hidden = [slide_id for slide_id in BY_ID if SITES.get(slide_id) != "north"]
    assert "nowhere" in hidden  # its site is null
    for slide_id in hidden:
        known, unknown = slide_asks(pictures, slide_id), slide_asks(pictures, "no such")
        for ask, other in zip(known, unknown, strict=True):
            ask(EVERYTHING)
            assert told(ask, NORTH) == told(other, NORTH)
    for tile in tiles_of(folder):
        ask = lambda access, name=tile["tile_id"]: pictures.tile_picture(access, name, Look())  # noqa: E731
        if tile["site"] == "north":
            assert ask(NORTH).data
        else:
            assert told(ask, NORTH)[0] is TileNotFound
        assert told(ask, NOTHING)[0] is TileNotFound


def test_a_slide_is_described_without_its_place(folder, pictures):
    slide = pictures.rows.slide(EVERYTHING, "north/a")
    assert (slide["width_px"], slide["height_px"]) == (128, 192)
    assert slide["tiles"] == 6
    assert slide["metadata"] == {"site": "north", "age": 40}
    assert str(folder) not in repr(slide)
    assert "stamp" not in slide


def test_a_tile_is_described_as_a_hit_is(folder, pictures):
    row = tiles_of(folder)[0]
    tile = pictures.rows.tile(EVERYTHING, row["tile_id"].upper())
    assert {name: tile[name] for name in ("tile_id", "slide_id", "x", "y")} == {
        name: row[name] for name in ("tile_id", "slide_id", "x", "y")
    }
    assert set(tile["metadata"]) == {"site", "age"}


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 100])
def test_pages_hold_every_slide_once_in_order(pictures, limit):
    found, cursor = [], None
    while True:
        page = pictures.rows.page(EVERYTHING, PageWanted(limit, cursor))
        assert page.total == len(BY_ID)
        found += [slide["slide_id"] for slide in page.slides]
        if (cursor := page.next) is None:
            break
        assert len(page.slides) == limit
    assert found == sorted(BY_ID)


def test_pages_show_only_what_is_theirs(pictures):
    page = pictures.rows.page(NORTH, PageWanted())
    assert ([slide["slide_id"] for slide in page.slides], page.total) == (["north/a", "north/b"], 2)
    nothing = pictures.rows.page(NOTHING, PageWanted())
    assert (nothing.slides, nothing.total, nothing.next) == ([], 0, None)


@pytest.mark.parametrize("cursor", ["", "x", "é", "/" * 9, "c291dGgvYw", "//79", "AA==", "YQBi"])
def test_a_cursor_of_somebody_else_is_refused(pictures, cursor):
    if not cursor:
        assert pictures.rows.page(EVERYTHING, PageWanted(cursor="")).slides
        return
    with pytest.raises(SettingError, match="cursor"):
        pictures.rows.page(EVERYTHING, PageWanted(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_size(limit):
    with pytest.raises(SettingError, match="limit"):
        PageWanted(limit)


def test_a_slide_that_is_gone_or_another_is_said_without_its_place(own):
    folder, pictures = own
    tiles = {tile["slide_id"]: tile["tile_id"] for tile in tiles_of(folder)}
    file = folder / "slides" / "north" / "a.svs"
    assert pictures.tile_picture(EVERYTHING, tiles["north/a"], Look()).data
    file.rename(folder / "elsewhere.svs")
    with pytest.raises(SlideUnreadable) as gone:
        pictures.tile_picture(EVERYTHING, tiles["north/a"], Look())
    shutil.copy(folder / "slides" / "north" / "b.svs", file)
    with pytest.raises(SlideChanged) as changed:
        pictures.tile_picture(EVERYTHING, tiles["north/a"], Look())
    file.write_bytes(b"no slide")
    with pytest.raises(SlideUnreadable) as broken:
        pictures.tile_picture(EVERYTHING, tiles["north/a"], Look())
    for caught in (gone, changed, broken):
        assert str(folder) not in str(caught.value)
    shutil.copy(folder / "elsewhere.svs", file)
    assert pictures.tile_picture(EVERYTHING, tiles["north/a"], Look()).data
    assert pictures.tile_picture(EVERYTHING, tiles["south/c"], Look()).data


def test_few_slides_stay_open_and_none_closes_under_its_reader(pictures):
    files = [
        SlideFile(**pictures.rows.slide_file(EVERYTHING, slide_id)) for slide_id in sorted(BY_ID)
    ]
    slides = OpenSlides(most=2)
    with slides.reading(files[0]) as first:
        for file in files[1:]:
            with slides.reading(file) as reader:
                assert reader.read_region(0, 0, 0, 8, 8).shape == (8, 8, 3)
        assert first.read_region(0, 0, 0, 8, 8).shape == (8, 8, 3)
    with pytest.raises(ValueError, match="closed"):
        first.read_region(0, 0, 0, 8, 8)
    with slides.reading(files[-1]) as last:
        assert last is reader
    slides.close()
    with pytest.raises(ValueError, match="closed"):
        last.read_region(0, 0, 0, 8, 8)
