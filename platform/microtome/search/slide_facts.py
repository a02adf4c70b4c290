"""What is known of all slides of an atlas, and how they are taken together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.atlas import Atlas
from microtome.atlas.mosaics import Numbers
from microtome.search.filters import Exclusion, unless_nan
from microtome.search.hits import plain
from microtome.search.slide_result import Level
from microtome.slides.slide import Scalar


@dataclass(frozen=True, slots=True)
class Groups:
    """Slides that are found together.

    Attributes:
        of: (F,) the group of each slide.
        names: of each group its slide_id, None for a case, and its case_id, None where unknown.
    """

    of: Numbers
    names: Sequence[tuple[str | None, str | None]]


@dataclass(frozen=True)
class SlideFacts:
    """The slides of one version of an atlas that have tiles.

    Attributes:
        dataset: the table of slides.
        rows: their manifest columns, F rows, sorted by slide_id.
        slide_ids: (F,) of text.
        case_ids: (F,) of text or None.
        tiles: (F,) int64, how many each has.
    """

    dataset: Any
    rows: pa.Table
    slide_ids: NDArray[Any]
    case_ids: NDArray[Any]
    tiles: NDArray[np.int64]

    @classmethod
    def of(cls, atlas: Atlas) -> SlideFacts:
        """Read them.

        Raises:
            AtlasError: the table can't be read.
        """
        dataset = atlas.slides
        columns = ["slide_id", "case_id", "tiles", *atlas.columns.names]
        rows = dataset.to_table(columns=columns, filter="tiles > 0").sort_by("slide_id")
        return cls(
            dataset,
            rows.select(atlas.columns.names),
            rows["slide_id"].to_numpy(),
            np.array([*rows["case_id"].to_pylist(), None], dtype=object)[:-1],
            rows["tiles"].to_numpy(),
        )

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each slide is."""
        return {slide_id: place for place, slide_id in enumerate(self.slide_ids.tolist())}

    def counted(self, tiles: Any, where: str) -> NDArray[np.int64]:
        """(F,) how many rows of the Lance dataset of tiles pass a filter, of each slide."""
        names = tiles.to_table(columns=["slide_id"], filter=where)["slide_id"].value_counts()
        counts = np.zeros(len(self.slide_ids) + 1, np.int64)
        own = [self.places.get(slide_id, -1) for slide_id in names.field("values").to_pylist()]
        counts[own] = names.field("counts").to_numpy()
        return counts[:-1]

    @cached_property
    def _slides(self) -> Groups:
        names = list(zip(self.slide_ids.tolist(), self.case_ids.tolist(), strict=True))
        return Groups(np.arange(len(names)), names)

    @cached_property
    def _cases(self) -> Groups:
        keys = [
            (None, case_id) if case_id is not None else (slide_id, None)
            for slide_id, case_id in self._slides.names
        ]
        names = list(dict.fromkeys(keys))
        numbers = {name: number for number, name in enumerate(names)}
        of = np.array([numbers[key] for key in keys], dtype=np.int64)
        return Groups(of, names)

    @cached_property
    def _by_case(self) -> dict[Scalar, list[int]]:
        """Where the slides of each case are."""
        found: dict[Scalar, list[int]] = {}
        for place, case_id in enumerate(self.case_ids.tolist()):
            found.setdefault(case_id, []).append(place)
        return found

    def groups(self, level: Level) -> Groups:
        """Slides one by one, or by their case."""
        return self._slides if level == "slide" else self._cases

    def named(self, *, slide_id: str | None = None, case_id: str | None = None) -> list[str]:
        """The slide, or those of the case, sorted; empty where it has no tiles or isn't there."""
        if slide_id is not None:
            return [slide_id] if slide_id in self.places else []
        found: list[str] = self.slide_ids[self._by_case.get(case_id, [])].tolist()
        return found

    def among(self, exclusion: Exclusion) -> NDArray[np.bool_]:
        """(F,) which slides are of what an exclusion names."""
        if exclusion.column == "case_id":
            own = self._by_case.get(exclusion.value, [])
        elif exclusion.column == "slide_id":
            own = [self.places.get(str(exclusion.value), -1)]
        else:
            rows = self.dataset.to_table(columns=["slide_id"], filter=exclusion.own)
            own = [self.places.get(slide_id, -1) for slide_id in rows["slide_id"].to_pylist()]
        mask = np.zeros(len(self.slide_ids) + 1, np.bool_)
        mask[own] = True
        return mask[:-1]

    def told(self, column: str) -> list[Scalar]:
        """(F,) what `case_id` or a manifest column says of each slide; None where nothing."""
        own = self.case_ids if column == "case_id" else self.rows[column].to_pylist()
        return [unless_nan(value) for value in own]

    def metadata(self, slides: Sequence[str]) -> dict[str, Scalar]:
        """What the manifest's columns say of some slides, where they agree; else None."""
        rows = self.rows.take([self.places[slide_id] for slide_id in slides]).to_pydict()
        return {
            name: plain(values[0]) if len(set(values)) == 1 else None
            for name, values in rows.items()
        }
