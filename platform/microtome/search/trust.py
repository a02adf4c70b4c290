"""How far hits can be trusted: is the best match a good one, and how much is the site's doing?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from microtome.atlas.atlas import Atlas
from microtome.search.calibration import Calibration, Calibrations, Verdict
from microtome.search.exclusion import own_value
from microtome.search.filters import Exclusion
from microtome.search.finder import Finder, View
from microtome.search.hits import plain
from microtome.search.result import Hit, SearchSettings
from microtome.search.site_bias import FindableTiles, SiteBias

UNJUDGED: Final = "whether the best match is a good one was not judged"
"""So begin notes that give a reason for that."""


class Calibrated(Protocol):
    """Where calibrations come from: `Calibrations`, or whoever has something in their stead."""

    def find(self, finder: Finder, by: str, where: str | None, tiles: int) -> Calibration | str:
        """See `Calibrations.find`."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """Where a query comes from, and what its search leaves out.

    Attributes:
        slide_id: the atlas's slide; None where it is from none.
        case_id: its case, where known.
        exclusion: what the search leaves out.
        parts: of which the query consists.
    """

    slide_id: str | None
    case_id: str | None
    exclusion: Exclusion | None
    parts: int = 1

    @property
    def left_out(self) -> tuple[Exclusion, ...]:
        """The query's own slide and case, and what the search leaves out besides."""
        own = {"slide_id": self.slide_id, "case_id": self.case_id}
        known = (Exclusion(column, value) for column, value in own.items() if value is not None)
        return tuple(dict.fromkeys((*known, *([self.exclusion] if self.exclusion else []))))

    def owns(self, hit: Hit) -> bool:
        """Whether a hit is of the query's own slide or case."""
        same_case = self.case_id is not None and hit.case_id == self.case_id
        return same_case or hit.slide_id == self.slide_id


class Trust:
    """Judges results of searches in an atlas; what it needs for that is kept, for many threads.

    Args:
        atlas: what is searched.
        calibrations: of the atlas; else they are made when they are first needed.
    """

    def __init__(self, atlas: Atlas, calibrations: Calibrated | None = None) -> None:
        self._atlas = atlas
        self._calibrations = calibrations or Calibrations(atlas)
        self._findable = FindableTiles(atlas)

    def verdict(
        self, finder: Finder, asking: Asking, best: float | None, settings: SearchSettings
    ) -> tuple[Verdict | None, str]:
        """Whether the best match is a good one, and in words where it isn't or can't be told.

        Calibrated are searches that leave out the query's own slide, case or group as this one
        does. A query from outside is a case that the atlas doesn't hold. One that may find its own
        slide is not judged: it is its own best match.
        """
        how, left_out = settings.calibrating, asking.exclusion
        if how is None or best is None:
            return None, ""
        if asking.slide_id and not left_out:
            return (
                None,
                f"{UNJUDGED}: it may be the query's own, unless its slide or case is excluded",
            )
        by = left_out.column if left_out else "case_id"
        found = self._calibrations.find(finder, by, settings.where, how.tiles)
        if isinstance(found, str):
            return None, f"{UNJUDGED}: {found}"
        verdict = found.judge(best, how.alpha, asking.parts)
        return verdict, "" if verdict.no_good_match is False else str(verdict)

    def site_bias(
        self, view: View, asking: Asking, hits: Sequence[Hit], settings: SearchSettings
    ) -> tuple[tuple[SiteBias, ...], str]:
        """How much of the ranking each of the asked columns explains, and what to say beside.

        Columns that say nothing of the query's slide, or of any hit of another case, are left out.
        Hits that are spread are no ranking: of one per site, one is of the query's.
        """
        if asking.slide_id is None or not settings.site_columns:
            return (), ""
        if settings.spread is not None:
            named = ", ".join(settings.site_columns)
            return (), f"hits that are spread don't tell how much of a ranking {named} explains"
        columns = (*settings.site_columns, *(one.column for one in asking.left_out))
        findable = self._findable.of(view.tiles, columns, settings.where)
        others = [hit for hit in hits if not asking.owns(hit)]
        found = []
        for column in settings.site_columns:
            value = own_value(self._atlas, asking.slide_id, column)
            theirs = [there for hit in others if (there := hit.metadata.get(column)) is not None]
            expected = findable.share(column, value, asking.left_out)
            if value is not None and theirs and expected is not None:
                told = plain(value)  # as the hits say it
                same = theirs.count(told)
                found.append(SiteBias(column, told, len(theirs), same, expected))
        return tuple(found), ""
