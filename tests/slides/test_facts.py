"""Who says how large a pixel is, and which dimensions are believed."""

from __future__ import annotations

import pytest

from microtome.config import MppSettings
from microtome.errors import SlideImplausible, SlideWithoutMpp
from microtome.slides.facts import (
    believable_objective,
    check_levels,
    isotropic,
    kept_properties,
    resolution,
)
from microtome.slides.slide import Level, SlideRef

NOBODY = MppSettings()
OBJECTIVE = MppSettings(from_objective=True)
ASSUMED = MppSettings(assume_mpp=0.4)
BOTH = MppSettings(assume_mpp=0.4, from_objective=True)
UNKNOWN = (None, None)


# header (x, y), manifest, objective, settings → mpp, who said so
@pytest.mark.parametrize(
    ("stated", "manifest", "objective", "settings", "expected"),
    [
        ((0.25, 0.25), 0.5, 20.0, BOTH, (0.25, "slide")),
        ((0.24, 0.26), None, None, NOBODY, (0.25, "slide")),
        (UNKNOWN, 0.5, 40.0, BOTH, (0.5, "manifest")),
        (UNKNOWN, None, 40.0, BOTH, (0.25, "objective")),
        (UNKNOWN, None, 20.0, OBJECTIVE, (0.5, "objective")),
        (UNKNOWN, None, None, BOTH, (0.4, "assumed")),
        (UNKNOWN, None, 20.0, ASSUMED, (0.4, "assumed")),  # the objective isn't asked
        ((353.0, 353.0), 0.5, None, NOBODY, (0.5, "manifest")),  # 72 dpi is no resolution
    ],
)
def test_the_order_of_who_may_say(stated, manifest, objective, settings, expected):
    ref = SlideRef("a.svs", "a.svs", mpp=manifest)
    assert resolution(ref, stated, objective, settings) == pytest.approx(expected)


def test_without_anyone_to_say_the_remedy_names_every_way():
    with pytest.raises(SlideWithoutMpp) as raised:
        resolution(SlideRef("a.svs", "a.svs"), UNKNOWN, 20.0, NOBODY)
    assert raised.value.message.startswith("a.svs ")
    for way in ("column mpp", "--assume-mpp", "--mpp-from-objective", "20×"):
        assert way in raised.value.remedy


def test_an_absurd_header_is_shown():
    with pytest.raises(SlideWithoutMpp, match="353 or 353 µm can't be right"):
        resolution(SlideRef("a.svs", "a.svs"), (353.0, 353.0), None, NOBODY)


@pytest.mark.parametrize(
    ("mpp_x", "mpp_y", "expected"),
    [
        (0.5, 0.5, 0.5),
        (0.5, 0.54, 0.52),
        (0.5, 0.56, None),  # more than 10 % apart
        (0.04, 0.04, None),
        (101.0, 101.0, None),
        (0.0, 0.0, None),
        (-0.5, -0.5, None),
        (float("nan"), 0.5, None),
        (float("inf"), float("inf"), None),
        (0.5, None, None),
    ],
)
def test_one_mpp_for_both_directions(mpp_x, mpp_y, expected):
    assert isotropic(mpp_x, mpp_y) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stated", "believed"), [(20.0, 20.0), (0.0, None), (-1.0, None), (1e9, None), (None, None)]
)
def test_objectives(stated, believed):
    assert believable_objective(stated) == believed


@pytest.mark.parametrize(
    ("levels", "complaint"),
    [
        ([], "no levels"),
        ([Level((1 << 20) + 1, 10, 1.0)], "1048577 × 10 px at level 0"),
        ([Level(10, 0, 1.0)], "10 × 0 px at level 0"),
        ([Level(10, 10, 1.0), Level(20, 20, 0.5)], "level 1 of 20 × 20 px that is finer"),
        ([Level(10, 10, 1.0), Level(5, 5, float("nan"))], "level 1"),
    ],
)
def test_dimensions_that_no_scanner_makes(levels, complaint):
    with pytest.raises(SlideImplausible, match=complaint):
        check_levels(SlideRef("a.svs", "a.svs"), levels)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("aperio.MPP", "0.4990", True),
        ("tiff.Model", "Scanner 3000, v1.2", True),
        ("aperio.Date", "12/29/09", False),
        ("aperio.User", "b414003d", False),
        ("tiff.Model", "", False),
        ("tiff.Model", "one line\nand another", False),
        ("tiff.Model", "n" * 65, False),
    ],
)
def test_only_short_facts_of_the_scanner_are_kept(name, value, kept):
    assert kept_properties({name: value}) == ({name: value} if kept else {})


def test_the_largest_slides_are_believed():
    check_levels(SlideRef("a.svs", "a.svs"), [Level(1 << 20, 1 << 20, 1.0), Level(1, 1, 1 << 20)])
