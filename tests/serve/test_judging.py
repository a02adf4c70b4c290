"""How far hits can be trusted, told by a server: to whom, when, and at whose cost."""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Event, current_thread

import numpy as np
import pytest

from microtome.atlas.atlas import Atlas
from microtome.errors import AtlasError, SettingError
from microtome.search import calibration as calibration_module
from microtome.search.calibration import Calibrating, Calibration, Calibrations
from microtome.search.finder import Finder
from microtome.search.query import TileQuery, VectorQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome_serve import judging
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.engines import Engines
from microtome_serve.filters import Condition
from microtome_serve.searching import Asked
from support.coloured_atlas import MeanColour
from support.sited_atlas import MadeSlide, make_atlas, tile_id

OPERATOR = Access("all", "operator")
READER = Access("reader", "reader")
NORTH = Access("north", "reader", "site = 'north'")
SOON_S = 120.0
UNJUDGED = "whether the best match is a good one was not judged"


def made_slides(sites: str) -> list[MadeSlide]:
    """Slides of three tiles, each a case, whose vectors give their site away: n, s or w."""
    slides = []
    for number in range(24):
        draw = np.random.default_rng(number)
        site = ("north", "south", "west")[number % 3]
        vectors = draw.normal(size=(3, 6)) + 4 * np.eye(6)[number % 3]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if site[0] in sites:
            slides.append(MadeSlide(f"s{number:02}", vectors, f"c{number}", site))
    return slides


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    return make_atlas(str(tmp_path_factory.mktemp("judged") / "atlas"), made_slides("nsw"))


@pytest.fixture
def engines(atlas):
    return Engines(atlas, {"model": MeanColour()})


def answer(engines, access=OPERATOR, query=None, **asked):
    query = query or TileQuery(tile_id(0))
    options = {"exclude": "case", "model": "made"} | asked
    return engines.answer(access, Ask(query, **options), "model")


def judged(engines, access=OPERATOR, **asked):
    """The first answer that holds a verdict."""
    until_s = time.monotonic() + SOON_S
    while time.monotonic() < until_s:
        found = answer(engines, access, alpha=0.1, **asked)
        if found["verdict"] is not None:
            return found
        time.sleep(0.02)
    pytest.fail(f"nothing is judged: {found['notes']}")


@pytest.mark.parametrize(
    ("query", "exclude"),
    [(TileQuery(tile_id(0)), "case"), (VectorQuery(-np.ones((1, 6), np.float32)), "none")],
)
def test_the_verdict_comes_soon_and_is_that_of_the_library(atlas, engines, query, exclude):
    found = judged(engines, query=query, exclude=exclude)
    wanted = SearchSettings(exclude=exclude, calibrating=Calibrating(0.1))
    here = Searcher(atlas).search(query, wanted)
    assert found["verdict"] == here.verdict.to_json()
    assert found["remarks"] == list(here.remarks)
    assert set(found["notes"]) == set(here.notes)


def test_nobody_waits_for_a_calibration(engines, monkeypatch):
    begun, end = Event(), Event()
    find = Calibrations.find

    def slowly(self, *what):
        begun.set()
        assert end.wait(SOON_S)
        return find(self, *what)

    monkeypatch.setattr(Calibrations, "find", slowly)
    try:
        for _ in range(3):
            found = answer(engines, alpha=0.1)
            assert (len(found["hits"]), found["verdict"]) == (10, None)
            assert found["notes"] == [f"{UNJUDGED}: {judging.NOT_YET}"]
        assert begun.wait(SOON_S)
    finally:
        end.set()
    assert judged(engines)["verdict"]["no_good_match"] is False


def test_without_alpha_nothing_is_looked_for(engines, monkeypatch):
    monkeypatch.setattr(Calibrations, "find", lambda *_: pytest.fail("looked for"))
    found = answer(engines)
    assert (found["verdict"], found["site_bias"], found["notes"]) == (None, [], [])


@pytest.mark.parametrize(
    ("access", "asked"),
    [
        (NORTH, {}),
        (READER, {"conditions": (Condition("site", "in", ["north", "south"]),)}),
    ],
)
def test_of_a_part_of_the_atlas_nothing_is_judged(engines, access, asked):
    judged(engines)
    found = answer(engines, access, alpha=0.1, **asked)
    assert found["verdict"] is None
    assert found["notes"][0] == f"{UNJUDGED}: {judging.OF_A_PART}"


def test_what_operators_may_do_is_not_told_to_others(engines, monkeypatch):
    monkeypatch.setattr(calibration_module, "MOST_ROWS", 5)
    until_s = time.monotonic() + SOON_S
    while "too large" not in (note := answer(engines, alpha=0.1)["notes"][0]):
        assert time.monotonic() < until_s, note
        time.sleep(0.02)
    assert answer(engines, READER, alpha=0.1)["notes"] == [UNJUDGED]


class Later:
    """Asks for calibrations, and waits until what there was to make is made."""

    def __init__(self, atlas: Atlas) -> None:
        self.calibrations = judging.LaterCalibrations(atlas)
        self._finder = Finder(atlas, *atlas.models)

    def find(self) -> Calibration | str:
        return self.calibrations.find(self._finder, "case_id", None, 99)

    def found(self) -> Calibration | str:
        self.find()
        self.calibrations._thread.submit(int).result(SOON_S)
        return self.find()


@pytest.fixture
def later(atlas):
    return Later(atlas)


def fail(*_):
    raise AtlasError("the store is away")


@pytest.fixture
def tried(monkeypatch):
    """One item each time that a calibration is read or drawn."""
    find, times = Calibrations.find, []
    monkeypatch.setattr(Calibrations, "find", lambda *what: times.append(1) or find(*what))
    return times


def test_where_there_can_be_none_it_is_tried_again_but_not_at_once(later, tried, monkeypatch):
    monkeypatch.setattr(calibration_module, "MOST_ROWS", 5)
    assert all("too large" in later.found() for _ in range(3))
    assert len(tried) == 1
    monkeypatch.setattr(calibration_module, "MOST_ROWS", 50_000)
    monkeypatch.setattr(judging, "ASK_AGAIN_S", 0.0)
    assert isinstance(later.found(), Calibration)
    assert len(tried) == 2


def test_what_fails_once_is_tried_again(later, monkeypatch):
    """An error of the thread that makes them, wherever it looks at the atlas."""
    view, asking = Finder.view, current_thread()
    with monkeypatch.context() as patch:
        patch.setattr(Finder, "view", lambda f: view(f) if current_thread() is asking else fail())
        assert later.found() == judging.FAILED
    monkeypatch.setattr(judging, "ASK_AGAIN_S", 0.0)
    assert isinstance(later.found(), Calibration)


def test_what_was_known_serves_while_a_newer_one_cannot_be_made(later, tried, monkeypatch):
    known = later.found()
    assert isinstance(known, Calibration)
    monkeypatch.setattr(later.calibrations, "_version", lambda _: ("a newer one",))
    with monkeypatch.context() as patch:
        patch.setattr(Calibrations, "_version", fail)
        assert [later.found() for _ in range(3)] == [known] * 3
        assert len(tried) == 2  # nor is that tried again at once
    monkeypatch.setattr(judging, "ASK_AGAIN_S", 0.0)
    assert later.found() is known
    assert len(tried) > 2


def test_what_was_known_serves_until_a_newer_version_is_known(later, monkeypatch):
    known, end = later.found(), Event()
    assert isinstance(known, Calibration)
    monkeypatch.setattr(later.calibrations, "_version", lambda _: ("a newer one",))
    monkeypatch.setattr(Calibrations, "find", lambda *_: end.wait(SOON_S))
    try:
        assert later.find() is known
    finally:
        end.set()


def test_the_site_bias_counts_what_is_there_for_them(engines, tmp_path):
    """North and west are all that there is for them: as in an atlas without the south."""
    rows = Access("some", "reader", "site <> 'south'")
    (bias,) = answer(engines, rows, site_columns=("site",))["site_bias"]
    alone = make_atlas(str(tmp_path / "atlas"), made_slides("nw"))
    wanted = SearchSettings(exclude="case", site_columns=("site",))
    (here,) = Searcher(alone).search(TileQuery(tile_id(0)), wanted).site_bias
    assert bias == here.to_json()
    (everything,) = answer(engines, site_columns=("site",))["site_bias"]
    assert everything["expected"] < bias["expected"]


@pytest.mark.parametrize(
    ("asked", "quick"),
    [
        ({"alpha": 0.1}, True),
        ({"site_columns": ("site",)}, False),
        ({"site_columns": ("site",), "spread": ("case_id", 1)}, True),  # nothing is counted
        ({"site_columns": ("site",), "query": VectorQuery(np.ones((1, 6), np.float32))}, True),
        ({"spread": ("case_id", 1), "level": "slide"}, False),
    ],
)
def test_what_counts_tiles_is_not_asked_with_the_quick_ones(asked, quick):
    ask = replace(Ask(TileQuery(tile_id(0))), **asked)
    assert Asked(READER, ask, None, 0.0).is_quick is quick


@pytest.mark.parametrize("asked", [{"alpha": 0.1}, {"site_columns": ("site",)}])
def test_of_slides_nothing_is_judged_and_that_is_said(engines, asked):
    with pytest.raises(SettingError, match="are for tiles"):
        answer(engines, level="slide", **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"alpha": 1.0}, "alpha"), ({"site_columns": ("hospital",)}, "'hospital'")],
)
def test_what_cannot_be_told_is_named(engines, asked, said):
    with pytest.raises(SettingError, match=said):
        answer(engines, **asked)
