"""Whether the best match is a good one, told by a threshold that the atlas itself sets.

A search always finds something. To know whether that looks alike, or only least unlike, tiles are
drawn from the atlas (`sampling`), and each is asked for its nearest among the tiles of *other*
cases. So the atlas says what scores are usual where a match is due. By split-conformal prediction
(Vovk, Gammerman & Shafer 2005; Angelopoulos & Bates, arXiv:2107.07511, section 1) the p-value of
a query whose best score is s, with n such scores sᵢ, is

    p = (1 + #{i : sᵢ ≤ s}) / (n + 1),

and it has no good match where p ≤ α, which is where s lies below the r-th smallest score,
r = ⌊α (n + 1)⌋. Below 1/α − 1 tiles no score is so small. If the query is exchangeable with the
tiles drawn, at most a share α of queries is wrongly said to have no good match.

What that assumes, and where it fails:

- The query is as a case of this archive that the atlas doesn't hold yet, cut from tissue alike,
  stained and scanned alike. Of other queries nothing is promised; that they are flagged is the use.
- The promise is for one tile. Of a picture or region the best part's score counts, and of many
  parts one scores well by chance: it is flagged more rarely, and never said to have a good match.
- With a filter, queries are as the tiles that pass are. Of one that doesn't fulfil it (a tile of
  the liver that asks among skin) nothing is promised; it will often be flagged, and rightly.
- It is held over atlases and queries together; with one atlas's n tiles the share scatters around
  α by about √(α (1 − α) / n).
- A case is drawn, then a tile of it. With fewer cases than tiles the scores of one case depend on
  one another: then α speaks of further tiles of these cases rather than of further cases.
- A query from outside is compared with one case more than a drawn tile is. So it is flagged no
  more often than promised.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.calibration_files import Grounds, Stored, read_stored, write_stored
from microtome.atlas.writer import Writer
from microtome.config import check_whole
from microtome.errors import SettingError
from microtome.search.finder import Finder
from microtome.search.sampling import Drawing, draw, nearest_others

MOST_ROWS: Final = 50_000
"""An atlas of more tiles isn't calibrated while a search waits; `microtome maintain` does it."""

STORED_TILES: Final = 499
STORED_BY: Final = ("slide_id", "case_id")
KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Calibrating:
    """How it is told whether a match is good.

    Attributes:
        alpha: of queries that do have a good match, at most this share is said to have none.
        tiles: how many are drawn where nothing is stored that `microtome maintain` drew; 0 draws
            none.
    """

    alpha: float = 0.05
    tiles: int = 199

    def __post_init__(self) -> None:
        if isinstance(self.alpha, bool) or not 0 < self.alpha < 1:
            raise SettingError(f"alpha must be between 0 and 1, not {self.alpha!r}")
        check_whole("calibration tiles", self.tiles, least=0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How good the best match is.

    Attributes:
        score: of the best match.
        p_value: share of tiles due a match that score as little, see above.
        threshold: a score below it is no good match; None where too few tiles were drawn for
            this alpha, and nothing can be said.
        alpha: see `Calibrating`.
        tiles: how many scores that rests on.
        parts: of the query, whose best scores so.
    """

    score: float
    p_value: float
    threshold: float | None
    alpha: float
    tiles: int
    parts: int = 1

    @property
    def no_good_match(self) -> bool | None:
        """Whether nothing found looks alike; None where that can't be said."""
        if self.threshold is None:
            return None
        if self.score < self.threshold:
            return True
        return False if self.parts == 1 else None

    def __str__(self) -> str:
        told = f"{self.score:.3f} (p = {self.p_value:.3f}, alpha {self.alpha:g})"
        if self.threshold is None:
            return f"the best scores {told}: {self.tiles} tiles are too few to tell what that means"
        if self.no_good_match:
            return f"no good match: the best scores {told}, less than {self.threshold:.3f}"
        least = f"no less than {self.threshold:.3f}"
        if self.parts > 1:
            return (
                f"the best of the query's {self.parts} parts scores {told}, {least}: whether the "
                "whole has a good match can't be told, only that part was judged"
            )
        return f"a good match: the best scores {told}, {least}"

    def to_json(self) -> dict[str, Any]:
        """The figures by name, ready for `json.dumps`."""
        return {"no_good_match": self.no_good_match} | asdict(self)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Best scores of tiles that were drawn, among others.

    Attributes:
        scores: (N,) float32, smallest first.
    """

    scores: NDArray[np.float32]

    @classmethod
    def of(cls, scores: Iterable[float]) -> Calibration:
        """From scores in any order."""
        return cls(np.sort(np.asarray(list(scores), np.float32)))

    def threshold(self, alpha: float) -> float | None:
        """The score below which a match isn't good; None where there are too few scores."""
        rank = math.floor(alpha * (len(self.scores) + 1) + 1e-9)  # 0.29 × 100 is below 29
        return float(self.scores[rank - 1]) if rank else None

    def p_value(self, score: float) -> float:
        """Share of the scores, that of the query counted in, which are no larger."""
        below = np.searchsorted(self.scores, np.float32(score), side="right")
        return float(1 + below) / (len(self.scores) + 1)

    def judge(self, score: float, alpha: float, parts: int = 1) -> Verdict:
        """What the best score of a query of so many parts says."""
        score, tiles = float(np.float32(score)), len(self.scores)
        return Verdict(score, self.p_value(score), self.threshold(alpha), alpha, tiles, parts)


def calibrate(finder: Finder, by: str, tiles: int, where: str | None = None) -> Calibration:
    """Draw tiles and find the best score of each among the tiles of other groups.

    Args:
        finder: of the model.
        by: the column whose values are the groups.
        tiles: how many to draw.
        where: Lance filter of tiles that may be drawn and found.
    """
    sample = draw(finder.view().tiles, Drawing(finder.model_id, by, tiles, where))
    found = nearest_others(finder, sample, 1, where)
    return Calibration.of(near.scores[0] for near in found if len(near.scores))


class Calibrations:
    """Calibrations of an atlas, made or read once for each version; safe to use from many threads.

    Args:
        atlas: whose.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._kept: OrderedDict[tuple[object, ...], Calibration] = OrderedDict()
        self._grounds: tuple[object, Grounds] | None = None
        self._lock = Lock()

    def find(self, finder: Finder, by: str, where: str | None, tiles: int) -> Calibration | str:
        """The calibration of searches that leave out the query's own group, or why there is none.

        Args:
            finder: of the model.
            by: the column whose values are the groups.
            where: the searches' filter.
            tiles: see `Calibrating`.
        """
        key = (*self._version(finder), by, where, tiles)
        with self._lock:  # held while it is made, so that it is made once
            if key not in self._kept:
                made = self._made(finder, by, where, tiles)
                if isinstance(made, str):  # asked again, as `microtome maintain` may run meanwhile
                    return made
                self._kept[key] = made
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            kept = self._kept[key]
        return kept if len(kept.scores) else "no tile has others to be compared with"

    def _made(self, finder: Finder, by: str, where: str | None, tiles: int) -> Calibration | str:
        stored = read_stored(self._atlas.uri, finder.model_id) if where is None else None
        if stored and by in stored.scores and self._fits(stored, finder):
            return Calibration.of(stored.scores[by])
        rows = finder.view().tiles.count_rows()
        if not tiles:
            return "no scores are stored, and no tiles were to be drawn"
        if rows > MOST_ROWS:
            how = "with a filter" if where else "before `microtome maintain` has sampled it"
            return f"an atlas of {rows:,} tiles is too large for that {how}"
        return calibrate(finder, by, tiles, where)

    def _fits(self, stored: Stored, finder: Finder) -> bool:
        """Whether the atlas is still much as it was, and not at a version before."""
        if stored.tiles_version > finder.view().tiles.version:
            return False
        version = self._version(finder)
        if self._grounds is None or self._grounds[0] != version:
            self._grounds = version, grounds_of(self._atlas, finder)
        return self._grounds[1].alike(stored.grounds)

    def _version(self, finder: Finder) -> tuple[object, ...]:
        return finder.model_id, *finder.version()


def grounds_of(atlas: Atlas, finder: Finder) -> Grounds:
    """What a calibration of an atlas rests on now."""
    slides = atlas.slides.to_table(columns=["slide_id", "case_id"], filter="tiles > 0")
    named = zip(slides["slide_id"].to_pylist(), slides["case_id"].to_pylist(), strict=True)
    return Grounds.of(_vectors(finder), named)


def _vectors(finder: Finder) -> int:
    """How many tiles have a vector; an index knows that of those that it codes."""
    view, present = finder.view(), f"{finder.column} IS NOT NULL"
    if view.standing is None:
        found: int = view.tiles.count_rows(present)
        return found
    some = [f for f in view.tiles.get_fragments() if f.fragment_id in view.standing.open_fragments]
    if not some:
        return view.standing.coded_rows
    scanner = view.tiles.scanner(columns=[], filter=present, fragments=some, with_row_id=True)
    row_ids = scanner.to_table()["_rowid"].to_numpy()
    coded = np.unpackbits(view.standing.coded, bitorder="little")
    known = row_ids[row_ids < len(coded)]
    return view.standing.coded_rows + len(row_ids) - int(coded[known].sum())


def store_calibrations(writer: Writer) -> str:
    """Draw tiles of an atlas that has changed since, and store their scores, for each model.

    Returns:
        What was done, in words; empty where there was nothing to do.

    Raises:
        AtlasWriteFailed: the store refuses.
        LeaseLost: another job took over.
    """
    atlas, did = Atlas.open(writer.uri), []
    for model_id, card in atlas.models.items():
        finder = Finder(atlas, model_id)
        tiles, stored = finder.view().tiles, read_stored(writer.uri, model_id)
        if stored and stored.tiles_version == tiles.version:
            continue
        scores = {by: calibrate(finder, by, STORED_TILES).scores.tolist() for by in STORED_BY}
        if any(scores.values()):
            made = Stored(tiles.version, grounds_of(atlas, finder), scores)
            writer.check_lease()  # a successor may forget slides
            write_stored(writer.uri, model_id, made)
            did.append(f"the usual scores of {card.name} ({model_id})")
    return ", ".join(did)
