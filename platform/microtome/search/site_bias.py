"""How much of a ranking is explained by where, or by what, its slides were scanned.

Models recognise the laboratory by its stain, scanner and compression (Howard et al. 2021,
doi:10.1038/s41467-021-24698-1; all twenty foundation models of arXiv:2507.17845), so the figure is
printed beside the hits. Of the hits of other cases than the query's, whose site is known,

    observed = the share that is of the query's own site,
    expected = that share among all tiles that could have been found, the own case left out,
    excess = (observed − expected) / (1 − expected),

as in Cohen's κ: 0 where the ranking doesn't know the site, 1 where it finds nothing else, below 0
where it shuns its own. An excess is no proof of a fault: a site that sees other diseases than the
rest is rightly found again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.search import patience
from microtome.search.filters import Exclusion
from microtome.search.keeping import Kept
from microtome.slides.slide import Scalar

USUAL_NAMES: Final = frozenset(
    ("site", "hospital", "centre", "center", "institution", "laboratory", "scanner", "vendor")
)
LEAST_HITS: Final = 5
"""Of fewer the observed share says nothing."""
KEPT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class SiteBias:
    """How much of one ranking the query's own site explains.

    Attributes:
        column: the manifest column that tells the site, or the scanner.
        value: what it says of the query's slide.
        hits: of other cases than the query's, whose site is known.
        same: those of them that are of the query's site.
        expected: share that would be of the query's site by chance, 0 to 1.
    """

    column: str
    value: Scalar
    hits: int
    same: int
    expected: float

    @property
    def observed(self) -> float:
        """Share of the hits that is of the query's site."""
        return self.same / self.hits

    @property
    def excess(self) -> float | None:
        """See above; None where there is no other site, or too few hits to tell."""
        return excess(self.observed, self.expected) if self.hits >= LEAST_HITS else None

    def __str__(self) -> str:
        told = "unknown" if self.excess is None else f"{self.excess:+.2f}"
        return (
            f"{self.column} bias {told}: of {self.hits} hits of other cases {self.observed:.0%} "
            f"are {self.value} as the query is, by chance {self.expected:.0%}"
        )

    def to_json(self) -> dict[str, Any]:
        """The figures by name, ready for `json.dumps`."""
        return asdict(self) | {"observed": self.observed, "excess": self.excess}


def excess(observed: float, expected: float) -> float | None:
    """See above; None where the expected share is 1."""
    return (observed - expected) / (1 - expected) if expected < 1 else None


def usual_columns(atlas: Atlas) -> tuple[str, ...]:
    """The manifest columns that tell sites or scanners, going by their names."""
    return usual_among(atlas.columns.names)


def usual_among(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the columns' names that are usual for sites or scanners."""
    return tuple(name for name in names if name.lower() in USUAL_NAMES)


@dataclass(frozen=True, slots=True)
class Findable:
    """The tiles that could be found, counted.

    Attributes:
        counts: how many `tiles` there are of each slide, case and value of further columns; maybe
            in several rows.
    """

    counts: pa.Table

    @classmethod
    def of_slides(cls, slides: Any, columns: Sequence[str]) -> Findable:
        """All tiles, as the Lance dataset of slides tells them: that reads no row per tile."""
        names = dict.fromkeys(["slide_id", "case_id", *columns, "tiles"])
        return cls(slides.to_table(columns=list(names), filter="tiles > 0"))

    @classmethod
    def of(cls, tiles: Any, columns: Sequence[str], where: str | None) -> Findable:
        """Count the tiles of the Lance dataset that pass a filter."""
        names = list(dict.fromkeys(["slide_id", "case_id", *columns]))
        schema = pa.schema([*(tiles.schema.field(name) for name in names), ("tiles", pa.int64())])
        counts = [schema.empty_table()]
        for rows in tiles.scanner(columns=names, filter=where).to_batches():
            patience.check()
            table = pa.Table.from_batches([rows]).group_by(names).aggregate([([], "count_all")])
            counts.append(table.rename_columns(schema.names).cast(schema))
        summed = pa.concat_tables(counts).group_by(names).aggregate([("tiles", "sum")])
        return cls(summed.rename_columns(schema.names))

    def share(self, column: str, value: Scalar, without: Sequence[Exclusion]) -> float | None:
        """Share of a value among the tiles whose value is known; None where there are none.

        Args:
            column: whose value.
            value: the value.
            without: tiles that are left out.
        """
        counted = self.counts["tiles"].to_numpy()
        known = self.counts[column].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
        for exclusion in without:
            known &= ~self._are(exclusion.column, exclusion.value)
        total = int(counted[known].sum())
        return float(counted[known & self._are(column, value)].sum() / total) if total else None

    def _are(self, column: str, value: Scalar) -> NDArray[np.bool_]:
        return np.array([there == value for there in self.counts[column].to_pylist()], np.bool_)


class FindableTiles:
    """Tiles that could be found, counted once for each version and filter; for many threads.

    Args:
        atlas: whose.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._kept: Kept[Findable] = Kept(KEPT_BYTES, lambda made: made.counts.nbytes)

    def of(self, tiles: Any, columns: Sequence[str], where: str | None) -> Findable:
        """Counted in the Lance dataset of tiles where there is a filter, else in that of slides.

        Slides are written beside their tiles, so while that is under way they may be ahead.

        Raises:
            DeadlinePassed: nobody waits for it any more.
        """
        if where is None:
            slides = self._atlas.slides
            return self._kept.of(
                ("slides", slides.version, tuple(columns)),
                lambda: Findable.of_slides(slides, columns),
            )
        return self._kept.of(
            ("tiles", tiles.version, tuple(columns), where),
            lambda: Findable.of(tiles, columns, where),
        )
