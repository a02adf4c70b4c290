"""For a token with some of an atlas's rows, the atlas is what one of those rows alone would be."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.errors import MicrotomeError
from microtome.models.encoder import Encoder
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import CaseQuery, RegionQuery, SlideQuery, TileQuery, VectorQuery
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.engines import Engines
from support.coloured_atlas import Quilt
from support.served_atlas import BY_ID, MODEL, encoder_of, index_served

NORTH = Access("north", "reader", "site = 'north'")
OWN = (BY_ID["north/a"], BY_ID["north/b"])
HIDDEN = (
    Quilt("south/c", (("pink", "purple", "pink", "pink", "purple", "pink"),) * 6, "case 1"),
    Quilt("south/d", (("tan", "pink"),), "case 9"),
    BY_ID["nowhere"],
)

QUERIES = {
    "vector": lambda _: VectorQuery(np.ones((1, 268), np.float32)),
    "tile": lambda engines: TileQuery(some_tile(engines)),
    "region": lambda _: RegionQuery("north/a", 0, 0, 64, 64),
    "polygon": lambda _: PolygonQuery("north/a", ((0, 0), (64, 0), (64, 64))),
    "slide": lambda _: SlideQuery("north/a"),
    "case": lambda _: CaseQuery("case 1"),
}
LEVELS = {"tile": (None,), "region": (None,)} | dict.fromkeys(
    ("slide", "case"), (None, "mosaic", "mean", "votes")
)
EXCLUDES = ("none", "slide", "case", "group:site")


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Of the whole atlas, and of one that holds nothing else than the token's rows."""
    folders = [(tmp_path_factory.mktemp(name), quilts) for name, quilts in
               (("whole", (*OWN, *HIDDEN)), ("own", OWN))]  # fmt: skip
    encoder = Remembering(encoder_of(MODEL))
    return [
        Engines(Atlas.open(index_served(folder, quilts)), {"model": encoder})
        for folder, quilts in folders
    ]


class Remembering:
    """An encoder that is asked once for the same pictures."""

    def __init__(self, encoder: Encoder) -> None:
        self.card = encoder.card
        self._encoder = encoder
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        key = pixels.tobytes()
        if key not in self._known:
            self._known[key] = self._encoder.encode(pixels)
        return self._known[key]


def some_tile(engines) -> str:
    rows = engines.atlas.tiles.to_table(columns=["tile_id"], filter="slide_id = 'north/a'")
    return min(rows["tile_id"].to_pylist())


def told(engines: Engines, query: str, **asked: object) -> object:
    """What is answered or refused, but for how often the atlas was written to."""
    try:
        ask = Ask(QUERIES[query](engines), k=100, **asked)
        answer = engines.answer(NORTH, ask, "model")
    except MicrotomeError as error:
        return type(error), str(error)
    return {name: value for name, value in answer.items() if name != "tiles_version"}


@pytest.mark.parametrize(("query", "level"), list(product(QUERIES, LEVELS)))
def test_nothing_tells_that_an_atlas_holds_more(engines, query, level):
    whole, own = engines
    for method, exclude in product(LEVELS[level], EXCLUDES):
        asked = {"level": level, "method": method, "exclude": exclude}
        assert told(whole, query, **asked) == told(own, query, **asked), asked


@pytest.mark.parametrize(("query", "level"), [(q, lv) for q in QUERIES for lv in ("tile", "case")])
def test_neither_does_what_is_spread_judged_or_counted(engines, query, level):
    """The case's hidden slide is of no age."""
    whole, own = engines
    further = [{"spread": ("age", 1)}, {"spread": ("site", 2), "min_score": 0.5}]
    if level == "tile":
        further.append({"alpha": 0.5, "site_columns": ("site", "age")})
    for method, exclude, asked in product(LEVELS[level], ("none", "slide"), further):
        asked |= {"level": level, "method": method, "exclude": exclude}
        assert told(whole, query, **asked) == told(own, query, **asked), asked
