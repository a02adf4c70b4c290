from __future__ import annotations

import json
import shutil

import lance
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_field
from microtome.atlas.tables import table_uri
from microtome.config import MppSettings
from microtome.errors import (
    AtlasDamaged,
    FilterInvalid,
    ModelMismatch,
    QueryUnreadable,
    SettingError,
    SlideWithoutMpp,
    TileNotFound,
)
from microtome.search.query import (
    CaseQuery,
    ImageQuery,
    RegionQuery,
    SlideQuery,
    TileQuery,
    VectorQuery,
    parse_query,
)
from microtome.search.result import Hit, SearchSettings
from microtome.search.searcher import Searcher, embed
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideRef
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from support.coloured_atlas import (
    COLOURS,
    COLUMNS,
    GRID,
    QUILTS,
    MeanColour,
    Quilt,
    add_slide,
    make_atlas,
)
from support.made_atlas import open_or_create

SIDE = GRID.tile_px
BY_ID = {quilt.slide_id: quilt for quilt in QUILTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quilts")


@pytest.fixture(scope="module")
def atlas(folder):
    return make_atlas(folder, MeanColour())


@pytest.fixture
def searcher(atlas):
    return Searcher(atlas, MeanColour())


def colour_of(hit: Hit) -> str:
    return BY_ID[hit.slide_id].colour_at(hit.x, hit.y)


def picture(folder, colour: str, size: tuple[int, int] = (SIDE, SIDE)) -> ImageQuery:
    path = folder / f"{colour}-{size[0]}x{size[1]}.png"
    Image.new("RGB", size, COLOURS[colour]).save(path)
    return ImageQuery(str(path))


def tile_at(searcher: Searcher, slide_id: str, x: int, y: int) -> Hit:
    where = f"slide_id = '{slide_id}' AND x = {x} AND y = {y}"
    region = RegionQuery(slide_id, 0, 0, SIDE, SIDE)
    return searcher.search(region, SearchSettings(where=where)).hits[0]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_nearest_of_a_colour_have_that_colour(searcher, tmp_path, colour):
    there = sum(row.count(colour) for quilt in QUILTS for row in quilt.patches)
    hits = searcher.search(picture(tmp_path, colour), SearchSettings(k=there)).hits
    assert [colour_of(hit) for hit in hits] == [colour] * there


def test_hits_come_best_first_and_tell_their_place(searcher, tmp_path):
    result = searcher.search(picture(tmp_path, "pink"), SearchSettings(k=5))
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1.000001 for score in scores)
    assert result.coverage == 1.0
    assert result.notes == ()
    hit = result.hits[0]
    quilt = BY_ID[hit.slide_id]
    assert (hit.case_id, hit.size_px) == (quilt.case_id, SIDE)
    assert hit.metadata == {"organ": quilt.organ, "age": quilt.age}


def test_json_has_the_promised_names(searcher, tmp_path):
    result = searcher.search(picture(tmp_path, "pink"), SearchSettings(k=2))
    answer = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert len(answer["hits"]) == 2
    assert list(answer["hits"][0]) == [
        "tile_id", "slide_id", "case_id", "x", "y", "size_px", "score", "tissue", "sharpness",
        "metadata",
    ]  # fmt: skip


def test_given_vectors_find_what_they_describe_and_need_no_model(atlas):
    pink = MeanColour().encode(np.full((1, 8, 8, 3), COLOURS["pink"], np.uint8))
    result = Searcher(atlas).search(VectorQuery(7 * pink), SearchSettings(k=3))
    assert [colour_of(hit) for hit in result.hits] == ["pink"] * 3
    assert result.hits[0].score == pytest.approx(1, abs=0.01)


def test_given_vectors_of_another_dimension_are_refused(atlas):
    with pytest.raises(ModelMismatch, match=r"1 vectors of 3 numbers, .* have 4\."):
        Searcher(atlas).search(VectorQuery([[1, 2, 3]]))


def test_given_vectors_lie_on_no_slide_that_could_be_left_out(atlas):
    with pytest.raises(SettingError, match="have no place"):
        Searcher(atlas).search(VectorQuery([[1, 2, 3, 4]]), SearchSettings(exclude="case"))


@pytest.mark.parametrize("query", [SlideQuery("a"), CaseQuery("case 1")])
def test_a_whole_slide_finds_no_tiles(searcher, query):
    with pytest.raises(SettingError, match=f"^{query.text} asks for slides or cases"):
        searcher.search(query)


def test_a_tile_is_its_own_nearest_and_needs_no_model(atlas, searcher):
    tile = tile_at(searcher, "b", SIDE, SIDE)
    result = Searcher(atlas).search(TileQuery(tile.tile_id), SearchSettings(k=1))
    assert result.hits[0].tile_id == tile.tile_id
    assert result.hits[0].score == pytest.approx(1, abs=1e-6)
    assert result.tile is not None
    assert (result.tile.slide_id, result.tile.x, result.tile.y) == ("b", SIDE, SIDE)


@pytest.mark.parametrize("by", ["slide_id", "file"])
def test_a_region_finds_the_place_it_was_cut_from(searcher, folder, by):
    slide = "a" if by == "slide_id" else str(folder / "a.svs")
    result = searcher.search(parse_query(f"{slide}#{SIDE},{SIDE},{SIDE},{SIDE}"))
    best = result.hits[0]
    assert (best.slide_id, best.x, best.y) == ("a", SIDE, SIDE)
    assert best.score == pytest.approx(1, abs=1e-5)


def test_a_large_region_is_covered_by_overlapping_tiles(searcher, atlas):
    encoder = MeanColour()
    result = Searcher(atlas, encoder).search(RegionQuery("a", 0, 0, 2 * SIDE, 3 * SIDE))
    assert sum(shape[0] for shape in encoder.seen) == 5 * 9
    six = {tile_at(searcher, "a", x * SIDE, y * SIDE).tile_id for x in (0, 1) for y in (0, 1, 2)}
    perfect = {hit.tile_id for hit in result.hits if hit.score == pytest.approx(1, abs=1e-5)}
    assert six <= perfect


def test_a_picture_of_another_mpp_is_brought_to_the_atlass(atlas, tmp_path):
    encoder = MeanColour()
    settings = SearchSettings(query_mpp=0.25)
    Searcher(atlas, encoder).search(picture(tmp_path, "tan", (4 * SIDE, 2 * SIDE)), settings)
    assert encoder.seen == [(5, SIDE, SIDE, 3)]


def test_a_coarse_picture_is_said_to_lack_detail(searcher, tmp_path):
    result = searcher.search(picture(tmp_path, "tan"), SearchSettings(query_mpp=2.0))
    assert any("enlarged" in note for note in result.notes)


def test_a_picture_is_embedded_by_the_tiles_that_cover_it():
    halves = np.zeros((16, 32, 3), np.uint8)
    halves[:, 16:] = 200
    left, right = MeanColour().encode(np.stack([halves[:, :16], halves[:, 16:]]))
    vectors = embed(MeanColour(), halves, 16)
    assert vectors[[0, -1]] == pytest.approx(np.stack([left, right]), abs=1e-6)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("exclude", "slides"),
    [("none", {"a", "b", "c", "d"}), ("slide", {"b", "c", "d"}), ("case", {"c", "d"})],
)
@pytest.mark.parametrize("by", ["tile", "slide_id", "file"])
def test_the_querys_own_slide_or_case_can_be_left_out(searcher, folder, exclude, slides, by):
    query = {
        "tile": lambda: TileQuery(tile_at(searcher, "a", 0, 0).tile_id),
        "slide_id": lambda: RegionQuery("a", 0, 0, SIDE, SIDE),
        "file": lambda: RegionQuery(str(folder / "a.svs"), 0, 0, SIDE, SIDE),
    }[by]()
    hits = searcher.search(query, SearchSettings(k=99, exclude=exclude)).hits
    assert {hit.slide_id for hit in hits} == slides


def test_a_copy_elsewhere_is_still_the_querys_own_slide(searcher, folder, tmp_path):
    copy = shutil.copy(folder / "a.svs", tmp_path / "copy.svs")
    settings = SearchSettings(k=99, exclude="slide")
    hits = searcher.search(RegionQuery(str(copy), 0, 0, SIDE, SIDE), settings).hits
    assert "a" not in {hit.slide_id for hit in hits}


def test_where_the_case_is_unknown_the_slide_is_left_out_and_that_is_said(searcher):
    region = RegionQuery("d", 0, 0, SIDE, SIDE)
    result = searcher.search(region, SearchSettings(k=14, exclude="case"))
    assert {hit.slide_id for hit in result.hits} == {"a", "b", "c"}
    assert result.notes == ("the case of d is unknown: only the slide itself was excluded",)


def test_a_region_of_a_slide_outside_the_atlas_has_nothing_to_leave_out(searcher, tmp_path):
    path = Quilt("new", (("pink", "tan"), ("tan", "pink"))).write(tmp_path)
    region = RegionQuery(str(path), 0, 0, SIDE, SIDE)
    result = searcher.search(region, SearchSettings(k=18, exclude="case"))
    assert len(result.hits) == 18
    assert any("nothing to exclude" in note for note in result.notes)


def test_an_image_has_no_slide_to_leave_out(searcher, tmp_path):
    with pytest.raises(SettingError, match="is an image"):
        searcher.search(picture(tmp_path, "pink"), SearchSettings(exclude="slide"))


def test_a_filter_and_an_exclusion_hold_together(searcher):
    region = RegionQuery("a", 0, 0, SIDE, SIDE)
    settings = SearchSettings(k=99, where="organ = 'skin' OR age = 40", exclude="slide")
    assert {hit.slide_id for hit in searcher.search(region, settings).hits} == {"b", "c"}


def test_a_wrong_filter_is_refused_before_the_model_is_loaded(atlas, tmp_path):
    def never() -> MeanColour:
        raise AssertionError("loaded")

    with pytest.raises(FilterInvalid, match="orgn"):
        Searcher(atlas, never).search(picture(tmp_path, "tan"), SearchSettings(where="orgn = 'a'"))


def test_an_encoder_is_loaded_once_and_only_when_needed(atlas, searcher, tmp_path):
    loaded = []

    def load() -> MeanColour:
        loaded.append(1)
        return MeanColour()

    lazy = Searcher(atlas, load)
    lazy.search(TileQuery(tile_at(searcher, "a", 0, 0).tile_id))
    assert loaded == []
    lazy.search(picture(tmp_path, "tan"))
    lazy.search(picture(tmp_path, "pink"))
    assert loaded == [1]


def test_more_than_there_are_gives_all_and_says_so(searcher, atlas, tmp_path):
    result = searcher.search(picture(tmp_path, "tan"), SearchSettings(k=1000))
    assert len(result.hits) == atlas.tiles.count_rows()
    assert result.notes == ("18 of 1,000 hits: there are no more tiles to search",)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ("-1,0,64,64", "leaves the slide, which has 128 × 192 px"),
        ("65,0,64,64", "leaves the slide"),
        ("0,129,64,64", "leaves the slide"),
        ("0,0,100000000,100000000", "leaves the slide"),
    ],
)
def test_a_region_that_leaves_its_slide_is_refused(searcher, box, problem):
    with pytest.raises(QueryUnreadable, match=problem):
        searcher.search(parse_query(f"a#{box}"))


def test_a_slide_that_nobody_knows_is_named(searcher):
    with pytest.raises(QueryUnreadable, match=r"nowhere\.svs is neither a slide_id .* nor a file"):
        searcher.search(RegionQuery("nowhere.svs", 0, 0, 9, 9))


def test_a_slide_without_mpp_needs_one_said(searcher, tmp_path):
    path = tmp_path / "plain.svs"
    write_pyramid(path, BY_ID["a"].pixels(), PyramidSpec(mpp=None, objective=None, levels=1))
    region = RegionQuery(str(path), 0, 0, SIDE, SIDE)
    with pytest.raises(SlideWithoutMpp):
        searcher.search(region)
    assert colour_of(searcher.search(region, SearchSettings(query_mpp=0.5)).hits[0]) == "pink"


def test_an_unknown_tile_is_named(searcher):
    with pytest.raises(TileNotFound, match="0" * 32):
        searcher.search(TileQuery("0" * 32))


def test_another_model_is_refused_and_both_are_named(atlas, tmp_path):
    with pytest.raises(ModelMismatch) as caught:
        Searcher(atlas, MeanColour("other")).search(picture(tmp_path, "tan"))
    assert "mean-colour" in str(caught.value)
    assert "other" in str(caught.value)


def test_a_model_the_atlas_does_not_hold_is_refused(searcher):
    tile = tile_at(searcher, "a", 0, 0)
    with pytest.raises(ModelMismatch, match="not of abc"):
        searcher.search(TileQuery(tile.tile_id), SearchSettings(model_id="abc"))


def test_an_image_without_any_model_says_what_is_missing(atlas, tmp_path):
    with pytest.raises(SettingError, match="needs the model"):
        Searcher(atlas).search(picture(tmp_path, "tan"))


@pytest.fixture(scope="module")
def two_models(tmp_path_factory) -> Atlas:
    """An atlas whose second model has embedded slide c only, and the first slide a only."""
    folder = tmp_path_factory.mktemp("two")
    second = MeanColour("second")
    atlas = make_atlas(folder, MeanColour(), QUILTS[:1])
    column = pa.schema([vector_field(second.card)])
    lance.dataset(table_uri(atlas.uri, "tiles")).add_columns(column)
    add_slide(Atlas.open(atlas.uri), second, QUILTS[2], QUILTS[2].write(folder))
    return Atlas.open(atlas.uri)


def test_coverage_tells_how_much_of_the_atlas_was_searched(two_models, tmp_path):
    second = MeanColour("second")
    result = Searcher(two_models, second).search(picture(tmp_path, "pink"), SearchSettings(k=4))
    assert result.model_id == second.card.model_id
    assert {hit.slide_id for hit in result.hits} == {"c"}
    assert result.coverage == pytest.approx(0.4)
    assert result.notes == ("6 of 10 tiles have no vector of this model and were not searched",)


def test_where_there_are_two_models_asking_by_tile_needs_one_said(two_models, searcher):
    with pytest.raises(SettingError, match=r"mean-colour .*second"):
        Searcher(two_models).search(TileQuery(tile_at(searcher, "a", 0, 0).tile_id))


def test_a_tile_without_a_vector_of_the_model_is_named(two_models, searcher):
    tile = TileQuery(tile_at(searcher, "a", 0, 0).tile_id)
    settings = SearchSettings(model_id=MeanColour("second").card.model_id)
    with pytest.raises(ModelMismatch, match="has no vector"):
        Searcher(two_models).search(tile, settings)


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": 1.5}, {"exclude": "patient"}, {"query_mpp": 0}, {"query_mpp": -1.0}]
)
def test_settings_refuse_to_be_wrong(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        SearchSettings(**wrong)


def test_a_crop_of_a_real_slide_finds_where_it_was_cut(real_data, tmp_path):
    file = real_data / "wsi" / "CMU-1-Small-Region.svs"
    encoder = MeanColour()
    atlas = open_or_create(str(tmp_path / "atlas"), GRID, encoder.card, COLUMNS)
    add_slide(atlas, encoder, Quilt("cmu", ()), file)
    place = Searcher(atlas).search(TileQuery(first_tile(atlas, "x > 600 AND y > 900"))).tile
    with open_slide(SlideRef("cmu", str(file)), MppSettings()) as reader:
        crop = reader.read_region(place.x, place.y, 0, place.size_px, place.size_px)
    Image.fromarray(crop).save(tmp_path / "crop.png")
    best = Searcher(atlas, encoder).search(ImageQuery(str(tmp_path / "crop.png"))).hits[0]
    assert (best.x, best.y) == (place.x, place.y)


def first_tile(atlas: Atlas, where: str) -> str:
    return atlas.tiles.to_table(columns=["tile_id"], filter=where, limit=1)["tile_id"][0].as_py()


def test_a_damaged_file_of_the_tiles_is_said(tmp_path):
    damaged = make_atlas(tmp_path, MeanColour())
    for file in (tmp_path / "atlas" / "tiles.lance" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AtlasDamaged, match=r"the table tiles of the atlas .* is damaged"):
        Searcher(damaged, MeanColour()).search(picture(tmp_path, "pink"))
