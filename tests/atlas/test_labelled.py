"""An atlas is a labelled set: its tiles, by any manifest column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.labelled import labelled_tiles, load_labelled
from microtome.config import MppSettings
from microtome.datasets.labelled import read_image, split_by_group
from microtome.errors import AtlasNotFound, DatasetInvalid, ImageUnreadable, SettingError
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideRef
from microtome.tiles.reading import ReadPlan, read_tile
from support.coloured_atlas import GRID, QUILTS, MeanColour, Quilt, make_atlas
from support.labelled_sets import write_pictures


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    return make_atlas(tmp_path, MeanColour())


def test_tiles_carry_their_slide_s_label_and_case(atlas: Atlas) -> None:
    labelled = labelled_tiles(atlas, "organ")

    expected = sorted(
        (quilt.organ, quilt.case_id)
        for quilt in QUILTS
        if quilt.organ
        for row in quilt.patches
        for _ in row
    )
    named = [labelled.classes[label] for label in labelled.labels]
    assert sorted(zip(named, labelled.groups, strict=True)) == expected
    assert (labelled.classes, labelled.grouped_by) == (("liver", "skin"), "case")
    assert labelled.mpp == GRID.mpp


def test_tiles_without_a_label_are_counted(atlas: Atlas) -> None:
    assert labelled_tiles(atlas, "organ").notes == ("4 tiles have no organ and were left out",)


def test_whole_numbers_are_classes_too(atlas: Atlas) -> None:
    assert labelled_tiles(atlas, "age").classes == ("40", "71")


def test_a_tile_is_read_just_as_it_was_indexed(atlas: Atlas) -> None:
    for sample in labelled_tiles(atlas, "organ").samples.to_pylist():
        with open_slide(SlideRef("a", sample["uri"]), MppSettings()) as reader:
            plan = ReadPlan.of(reader.slide, GRID)
            expected = read_tile(reader, plan, sample["region"]["x"], sample["region"]["y"])
        assert np.array_equal(read_image(sample), expected)


def test_cases_stay_on_one_side_of_a_split(atlas: Atlas) -> None:
    rest, held_out = split_by_group(labelled_tiles(atlas, "organ"), 0.4, seed=0)

    assert not set(rest.groups) & set(held_out.groups)


def test_a_slide_stands_for_the_case_it_has_not(tmp_path: Path) -> None:
    quilts = (Quilt("a", (("pink",),), None, "skin"), Quilt("b", (("tan",),), None, "liver"))

    labelled = labelled_tiles(make_atlas(tmp_path, MeanColour(), quilts), "organ")

    assert (set(labelled.groups), labelled.grouped_by) == ({"a", "b"}, "slide")
    assert labelled.notes == ("2 tiles have no case: their slide stands for it",)


def test_a_slide_that_was_exchanged_is_no_longer_what_was_labelled(
    atlas: Atlas, tmp_path: Path
) -> None:
    sample = labelled_tiles(atlas, "organ").samples.to_pylist()[0]
    quilt = next(one for one in QUILTS if sample["uri"].endswith(f"{one.slide_id}.svs"))
    Quilt(quilt.slide_id, (("tan", "tan"),) * 3).write(tmp_path)

    with pytest.raises(ImageUnreadable, match="changed since it was indexed"):
        read_image(sample)


def test_a_slide_that_is_gone_is_named(atlas: Atlas) -> None:
    sample = labelled_tiles(atlas, "organ").samples.to_pylist()[0]
    Path(sample["uri"]).unlink()

    with pytest.raises(ImageUnreadable, match=r"\.svs"):
        read_image(sample)


def test_a_spec_names_the_atlas_and_the_column(atlas: Atlas) -> None:
    assert len(load_labelled(f"atlas:{atlas.uri}#organ")) == 14


def test_any_other_spec_is_a_published_set_s(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a/1.png"])

    assert load_labelled(f"folder:{tmp_path}").classes == ("a",)


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("atlas:{}", SettingError, "atlas:URI#COLUMN"),
        ("atlas:{}#", SettingError, "atlas:URI#COLUMN"),
        ("atlas:#organ", SettingError, "atlas:URI#COLUMN"),
        ("atlas:{}#stain", SettingError, "organ, age"),
        ("atlas:{}-gone#organ", AtlasNotFound, "gone"),
    ],
)
def test_a_spec_that_can_t_be_meant_is_refused(
    atlas: Atlas, spec: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        load_labelled(spec.format(atlas.uri))


def test_a_column_without_a_value_makes_no_set(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path, MeanColour(), (QUILTS[3],))

    with pytest.raises(DatasetInvalid, match="organ"):
        labelled_tiles(atlas, "organ")
