from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFont

from microtome.atlas.writer import open_writer
from microtome.errors import SettingError
from microtome.search.calibration import Verdict
from microtome.search.contact_sheet import shortened, wrapped
from microtome.search.gallery import check_gallery_path, make_sheet, write_gallery
from microtome.search.pictures import read_pictures
from microtome.search.query import CaseQuery, ImageQuery, Query, RegionQuery, SlideQuery, TileQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome.search.site_bias import SiteBias
from microtome.search.slide_result import SlideHit, SlideResult, SlideSettings, TileMatch
from microtome.search.spread import Spread
from microtome.slides import opening
from support.coloured_atlas import COLOURS, GRID, QUILTS, MeanColour, make_atlas

SIDE = GRID.tile_px
BY_ID = {quilt.slide_id: quilt for quilt in QUILTS}


@pytest.fixture
def atlas(tmp_path):
    return make_atlas(tmp_path, MeanColour())


@pytest.fixture
def result(atlas):
    region = RegionQuery("a", 0, 0, SIDE, SIDE)
    return Searcher(atlas, MeanColour()).search(region, SearchSettings(k=7))


def test_each_picture_shows_its_hits_own_place(atlas, result):
    pictures = read_pictures(result.hits, atlas)
    assert set(pictures) == {hit.tile_id for hit in result.hits}
    for hit in result.hits:
        mean = pictures[hit.tile_id].pixels.mean(axis=(0, 1))
        colour = COLOURS[BY_ID[hit.slide_id].colour_at(hit.x, hit.y)]
        assert np.abs(mean - colour).max() < 15


def test_each_slide_is_opened_once(atlas, result, monkeypatch):
    opened = []

    def counting(ref, mpp):
        opened.append(ref.slide_id)
        return opening.open_slide(ref, mpp)

    monkeypatch.setattr("microtome.search.pictures.open_slide", counting)
    read_pictures(result.hits, atlas)
    assert opened == sorted({hit.slide_id for hit in result.hits})


def test_a_slide_out_of_reach_is_said_on_its_hits_and_harms_no_other(atlas, result, tmp_path):
    (tmp_path / "c.svs").unlink()
    pictures = read_pictures(result.hits, atlas)
    for hit in result.hits:
        picture = pictures[hit.tile_id]
        assert (picture.pixels is None) == (hit.slide_id == "c")
        assert bool(picture.problem) == (hit.slide_id == "c")
        assert str(tmp_path) not in picture.problem


def test_a_file_that_is_another_slide_by_now_is_not_shown(atlas, result, tmp_path):
    replace(BY_ID["b"], slide_id="c").write(tmp_path)
    pictures = read_pictures(result.hits, atlas)
    problems = {pictures[hit.tile_id].problem for hit in result.hits if hit.slide_id == "c"}
    assert problems == {"the file has changed since it was indexed"}


def test_the_sheet_says_what_was_asked_and_found(atlas):
    settings = SearchSettings(k=3, where="organ = 'skin'", exclude="slide")
    region = RegionQuery("a", 0, 0, SIDE, SIDE)
    sheet = make_sheet(Searcher(atlas, MeanColour()).search(region, settings), atlas)
    assert sheet.query == "a#0,0,64,64"
    assert sheet.facts[0] == "3 hits · where organ = 'skin' · without the query's slide"
    assert "mean-colour" in sheet.facts[1]
    first = sheet.cards[0]
    assert first.rank == 1
    assert first.slide == "c"
    assert first.facts == (("case", "case 2"), ("organ", "skin"), ("age", "71"))
    assert re.fullmatch(r"c#\d+,\d+,64,64", first.region)


def test_a_tile_that_asks_is_shown_and_placed(atlas, result):
    tile = result.hits[0]
    found = Searcher(atlas).search(TileQuery(tile.tile_id), SearchSettings(k=1))
    sheet = make_sheet(found, atlas)
    assert sheet.facts[0] == f"a tile of {tile.slide_id} at x {tile.x} · y {tile.y}"
    assert sheet.picture.pixels.shape == (SIDE, SIDE, 3)


def test_the_contact_sheet_shows_query_and_hits_in_their_colours(atlas, result, tmp_path):
    path = tmp_path / "hits.png"
    write_gallery(path, result, atlas)
    with Image.open(path) as image:
        assert image.format == "PNG"
        sheet = np.asarray(image.convert("RGB")).astype(int)
    pink = np.abs(sheet - COLOURS["pink"]).max(axis=2) < 25
    assert pink.sum() > 7 * 200 * 200  # the query, and six of seven hits that are pink


def test_the_page_holds_everything_itself(atlas, result, tmp_path):
    path = tmp_path / "hits.html"
    write_gallery(path, result, atlas)
    page = path.read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 8
    assert not re.search(r"<script|https?://|src=\"(?!data:)|href=", page)
    for hit in result.hits:
        assert hit.tile_id in page


def test_names_are_shown_as_text_never_as_markup(atlas, result, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    hit = replace(result.hits[0], slide_id=evil, metadata={evil: evil}, case_id=evil)
    path = tmp_path / "hits.html"
    query = ImageQuery(evil)
    write_gallery(path, replace(result, hits=(hit,), query=query, notes=(evil,)), atlas)
    assert "<img src=x" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_no_hits_make_a_gallery_too(atlas, tmp_path, suffix):
    settings = SearchSettings(where="false")
    found = Searcher(atlas, MeanColour()).search(RegionQuery("a", 0, 0, SIDE, SIDE), settings)
    path = tmp_path / f"none{suffix}"
    write_gallery(path, found, atlas)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "problem"), [("hits.gif", r"\.png or \.html"), ("none/hits.png", "no folder")]
)
def test_a_gallery_that_cannot_be_written_is_refused_early(tmp_path, name, problem):
    with pytest.raises(SettingError, match=problem):
        check_gallery_path(Path(tmp_path / name))


FONT = ImageFont.load_default(15)


@pytest.mark.parametrize("text", ["", "short", "a" * 300, "one two three " * 30, "Ω 切片" * 40])
def test_no_line_gets_wider_than_its_field(text):
    assert FONT.getlength(shortened(text, FONT, 200)) <= 200
    lines = wrapped(text, FONT, 200, 4)
    assert len(lines) <= 4
    assert all(FONT.getlength(line) <= 200 for line in lines)


def test_a_long_name_keeps_both_ends():
    text = shortened("folder/of/a/laboratory/slide-12-recut.svs", FONT, 150)
    assert text.startswith("folder")
    assert text.endswith(".svs")
    assert "…" in text


def slides_found(query: Query, *hits: SlideHit) -> SlideResult:
    settings = SlideSettings(exclude="group:site", where="organ = 'skin'")
    card = MeanColour().card
    return SlideResult(
        hits, query, settings, "mosaic", card.model_id, card.name, "exact", 1, 1.0, ("said",)
    )


def test_slides_are_shown_as_maps_on_which_what_matches_is_marked(atlas, result):
    match = TileMatch(None, replace(result.hits[0], slide_id="b", x=SIDE, y=0), 0.9)
    blank = Image.new("RGB", (64, 64), "white")
    file = io.BytesIO()
    blank.save(file, "JPEG")
    with open_writer(atlas.uri, "test") as writer:
        rows = atlas.slides.to_table(columns=["slide_id"])
        thumbnails = pa.array([file.getvalue()] * len(rows), pa.binary())
        writer.upsert("slides", rows.append_column("thumbnail", thumbnails), insert=False)
    found = slides_found(
        SlideQuery("a"), SlideHit("b", "case 1", ("b",), 0.9, (match,), {"organ": "lung"})
    )
    sheet = make_sheet(found, atlas)
    (card,) = sheet.cards
    side = 64 / len(BY_ID["b"].patches[0])  # of a tile on the map, px
    down, across = np.nonzero((card.picture.pixels < 250).any(axis=2))
    assert across.min() == pytest.approx(side, abs=2)
    assert down.max() == pytest.approx(side, abs=2)
    assert (sheet.picture.pixels > 250).all()  # the query's map has no marks
    assert (card.slide, card.ask, card.score) == ("b", "slide:b", "0.900")
    assert card.facts == (("case", "case 1"), ("organ", "lung"))
    assert sheet.facts[0] == "1 hits · by mosaic · where organ = 'skin' · without the query's site"


def test_a_case_names_its_slides_and_one_without_a_thumbnail_says_so(atlas, tmp_path):
    found = slides_found(
        CaseQuery("case 2"),
        SlideHit(None, "case 1", ("a", "b"), 0.9),
        SlideHit(None, None, ("d",), 0.8),
    )
    first, second = make_sheet(found, atlas).cards
    assert (first.slide, first.place, first.ask) == ("case 1", "2 slides", "case:case 1")
    assert (second.slide, second.place, second.ask) == ("d", "", "slide:d")
    assert first.picture.problem == "the atlas holds no thumbnail of the slide"
    for name in ("slides.html", "slides.png"):
        write_gallery(tmp_path / name, found, atlas)
        assert (tmp_path / name).stat().st_size > 1000


def test_a_manifests_column_never_stands_for_what_was_found(atlas):
    manifest = {"rank": 9, "slides": "some", "evidence": "weak", "case": "7", "organ": "lung"}
    hit = SlideHit(None, "case 1", ("a", "b"), 0.9, (), manifest)
    found = slides_found(CaseQuery("case 2"), hit)
    (row,) = replace(found, settings=SlideSettings(level="case")).rows()
    assert row == {
        "rank": 1,
        "score": "0.900",
        "case_id": "case 1",
        "slides": "a, b",
        "manifest.rank": 9,
        "manifest.slides": "some",
        "manifest.evidence": "weak",
        "case": "7",
        "organ": "lung",
        "evidence": None,
    }


def test_a_card_tells_a_manifests_case_from_the_case(atlas, result):
    hit = replace(result.hits[0], case_id="case 1", metadata={"case": "7"})
    (card,) = make_sheet(replace(result, hits=(hit,)), atlas).cards
    assert card.facts == (("case", "case 1"), ("manifest.case", "7"))


def test_how_far_hits_can_be_trusted_stands_on_the_page(atlas, result):
    verdict = Verdict(0.99, 0.8, 0.7, 0.05, 199)
    told = replace(
        result,
        settings=SearchSettings(spread=Spread("case_id", 2), min_score=0.5, exclude="group:organ"),
        verdict=verdict,
        site_bias=(SiteBias("site", "north", 8, 6, 0.5),),
    )
    facts = make_sheet(told, atlas).facts
    assert facts[0] == (
        "7 hits · of at least 0.5 · without the query's organ · at most 2 of each case_id"
    )
    assert facts[2].startswith("a good match: the best scores 0.990")
    assert facts[3] == (
        "site bias +0.50: of 8 hits of other cases 75% are north as the query is, by chance 50%"
    )
