"""How much of an atlas's rankings its sites explain: `site_bias` over tiles that are drawn.

The tiles are drawn evenly from all cases, and each is asked for its k nearest of other cases.
Observed and expected shares are means over the tiles, so the excess is that of all rankings
together; its 95 % interval is by bootstrap over the cases (Efron & Tibshirani 1993, chapter 13),
since tiles of one case say much the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.config import check_whole
from microtome.errors import SettingError
from microtome.search.exact import Nearest
from microtome.search.exclusion import check_column
from microtome.search.filters import Exclusion, all_of, check_filter, filter_errors, named
from microtome.search.finder import Finder
from microtome.search.sampling import Drawing, Sample, draw, nearest_others
from microtome.search.site_bias import Findable, excess, usual_columns
from microtome.search.spread import values_of

REPEATS: Final = 2000


@dataclass(frozen=True, slots=True)
class BiasSettings:
    """How the site bias of an atlas is measured.

    Attributes:
        k: nearest tiles of each drawn one.
        tiles: how many are drawn, at most.
        where: condition on the tiles that are drawn and found.
        seed: another draws others.
    """

    k: int = 10
    tiles: int = 200
    where: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("k", self.k, least=1)
        check_whole("tiles", self.tiles, least=1)


@dataclass(frozen=True, slots=True)
class AtlasBias:
    """How much of an atlas's rankings the sites explain.

    Attributes:
        column: the column that tells the site, or the scanner.
        model_id: whose vectors were compared.
        tiles: drawn.
        cases: that these are from.
        observed: mean share of the own site among the hits, 0 to 1.
        expected: mean share by chance.
        excess: see `site_bias`.
        low: of its 95 % interval.
        high: of its 95 % interval.
    """

    column: str
    model_id: str
    tiles: int
    cases: int
    observed: float
    expected: float
    excess: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """The figures by name, ready for `json.dumps`."""
        return asdict(self)


def telling_columns(atlas: Atlas) -> tuple[str, ...]:
    """The columns called site, scanner and the like that have two values at least."""
    slides = atlas.rows("slides", columns=list(usual_columns(atlas)))
    return tuple(
        name for name in slides.column_names if pc.count_distinct(slides[name]).as_py() > 1
    )


def atlas_bias(
    atlas: Atlas, column: str, model_id: str, settings: BiasSettings | None = None
) -> AtlasBias:
    """Measure how much of an atlas's rankings a column explains.

    Raises:
        SettingError: there is no such column, or it doesn't tell tiles of different cases apart.
        FilterInvalid: `where` isn't a condition over the columns of `tiles`.
    """
    settings = settings or BiasSettings()
    check_column(atlas, "site-bias", column)
    finder = Finder(atlas, model_id)
    tiles = finder.view().tiles
    if settings.where is not None:
        check_filter(tiles, settings.where)
    where = all_of(settings.where or "", f"{named(column)} IS NOT NULL")
    with filter_errors(tiles, settings.where):
        sample = draw(tiles, Drawing(model_id, "case_id", settings.tiles, where, settings.seed))
        findable = Findable.of(tiles, [column], where)
        found = nearest_others(finder, sample, settings.k, where)
    shares, cases = _shares(tiles, column, sample, found, findable)
    if not cases or shares[:, 1].min() == 1:
        raise SettingError(
            f"the column {column!r} of the atlas {atlas.uri} doesn't tell tiles of different cases "
            "apart",
            remedy="Name one that has two values at least, in tiles of two cases at least.",
        )
    low, high = _interval(shares, cases, settings.seed)
    observed, expected = shares.mean(axis=0).tolist()
    return AtlasBias(
        column=column,
        model_id=model_id,
        tiles=len(cases),
        cases=len(set(cases)),
        observed=observed,
        expected=expected,
        excess=excess(observed, expected) or 0.0,
        low=low,
        high=high,
    )


def _shares(
    tiles: Any, column: str, sample: Sample, found: Sequence[Nearest], findable: Findable
) -> tuple[NDArray[np.float64], list[Exclusion]]:
    """(N, 2) observed and expected share of each drawn tile that found any, and its case."""
    shares, cases = [], []
    own = values_of(tiles, sample.row_ids, column)
    for near, mine, case in zip(found, own, sample.groups, strict=True):
        expected = findable.share(column, mine, [case])
        if expected is not None and len(near.row_ids):
            same = [value == mine for value in values_of(tiles, near.row_ids, column)]
            shares.append((float(np.mean(same)), expected))
            cases.append(case)
    return np.array(shares, np.float64).reshape(-1, 2), cases


def _interval(
    shares: NDArray[np.float64], cases: Sequence[Exclusion], seed: int
) -> tuple[float, float]:
    """The 95 % percentile interval of the excess, over cases drawn with replacement."""
    codes = {case: code for code, case in enumerate(dict.fromkeys(cases))}
    sums = np.zeros((len(codes), 3))  # observed, expected, tiles
    np.add.at(sums, [codes[case] for case in cases], np.c_[shares, np.ones(len(shares))])
    drawn = np.random.default_rng(seed).integers(0, len(codes), (REPEATS, len(codes)))
    observed, expected, tiles = sums[drawn].sum(axis=1).T
    varied = expected < tiles  # else only cases were drawn that have no other site
    values = (observed[varied] - expected[varied]) / (tiles[varied] - expected[varied])
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high
