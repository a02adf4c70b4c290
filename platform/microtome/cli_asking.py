"""What `microtome search` was told, checked, and asked of an atlas at the level it means."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from microtome.errors import SettingError

if TYPE_CHECKING:
    from microtome.atlas.atlas import Atlas
    from microtome.models.encoder import Encoder
    from microtome.models.registry import EncoderOptions
    from microtome.search.calibration import Calibrating
    from microtome.search.query import Query
    from microtome.search.region_result import RegionResult
    from microtome.search.result import SearchResult
    from microtome.search.slide_result import SlideResult
    from microtome.search.spread import Spread

Level = Literal["tile", "region", "slide", "case"]
Method = Literal["mosaic", "mean", "votes"]

ALPHA: Final = 0.05

_LEVELS: Final[dict[str, tuple[Level, ...]]] = {
    "--alpha": ("tile",),
    "--site-column": ("tile",),
    "--method": ("slide", "case"),
    "--geojson": ("region",),
}
"""Flags that say nothing at other levels."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a search was told beside query and place: the flags of `microtome search` by name.

    None is what wasn't said.
    """

    level: Level | None = None
    k: int = 10
    method: Method | None = None
    model: str | None = None
    where: str | None = None
    exclude: str = "none"
    spread: str | None = None
    min_score: float | None = None
    alpha: float | None = None
    site_column: list[str] | None = None
    query_mpp: float | None = None
    exact: bool = False
    as_of: str | None = None
    allow_licence: list[str] | None = None
    gallery: Path | None = None
    geojson: Path | None = None

    def said(self, flag: str) -> bool:
        """Whether a flag was given."""
        return getattr(self, flag.removeprefix("--").replace("-", "_")) is not None

    @property
    def told_alpha(self) -> float | None:
        """Of the verdict; None where none is wanted."""
        return (ALPHA if self.alpha is None else self.alpha) or None

    @property
    def calibrating(self) -> Calibrating | None:
        """What makes a search tell a verdict.

        Raises:
            SettingError: `--alpha` can't be right.
        """
        from microtome.search.calibration import Calibrating

        return None if self.told_alpha is None else Calibrating(self.told_alpha)

    @property
    def spreading(self) -> Spread | None:
        """What was said by `--spread`.

        Raises:
            SettingError: it can't be read.
        """
        from microtome.search.spread import Spread

        return None if self.spread is None else Spread.parse(self.spread)


class Result(Protocol):
    """What a search answers, at any level."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the hits should know, one sentence each."""
        ...

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """For a table, one row per hit."""
        ...


def level_of(wish: Wish, query: Query) -> Level:
    """What is to be found: what was said, else what the query is one of.

    Raises:
        SettingError: a flag was given that says nothing at this level.
    """
    level = wish.level or _usual_level(query)
    for flag, levels in _LEVELS.items():
        if wish.said(flag) and level not in levels:
            raise SettingError(
                f"{flag} says nothing where a {level} is looked for",
                remedy=f"It is for --level {' or '.join(levels)}.",
            )
    return level


def _usual_level(query: Query) -> Level:
    from microtome.search.polygon_query import PolygonQuery
    from microtome.search.query import CaseQuery, SlideQuery

    match query:
        case PolygonQuery():
            return "region"
        case SlideQuery():
            return "slide"
        case CaseQuery():
            return "case"
        case _:
            return "tile"


def ask_atlas(uri: str, query: Query, wish: Wish) -> Result:
    """Search an atlas, and write the files that were wished for.

    Raises:
        MicrotomeError: see `search` of `Searcher`, `RegionSearcher` and `SlideSearcher`.
    """
    from microtome.atlas.atlas import Atlas
    from microtome.search.gallery import check_gallery_path, write_gallery

    level = level_of(wish, query)
    if wish.gallery is not None:
        check_gallery_path(wish.gallery)
    if wish.geojson is not None:
        check_geojson(wish.geojson)
    atlas = Atlas.open(uri) if wish.as_of is None else Atlas.open(uri).at(wish.as_of)
    result: SearchResult | RegionResult | SlideResult
    if level == "tile":
        result = _tiles(atlas, query, wish)
    elif level == "region":
        result = _regions(atlas, query, wish)
    else:
        result = _slides(atlas, query, wish, level)
    if wish.gallery is not None:
        write_gallery(wish.gallery, result, atlas)
    return result


def _tiles(atlas: Atlas, query: Query, wish: Wish) -> SearchResult:
    from microtome.search.result import SearchSettings
    from microtome.search.searcher import Searcher
    from microtome.search.site_bias import usual_columns

    settings = SearchSettings(
        k=wish.k,
        where=wish.where,
        exclude=wish.exclude,
        model_id=_model_id(atlas, wish),
        query_mpp=wish.query_mpp,
        exact=wish.exact,
        spread=wish.spreading,
        min_score=wish.min_score,
        calibrating=wish.calibrating,
        site_columns=tuple(wish.site_column or usual_columns(atlas)),
    )
    return Searcher(atlas, _encoder(atlas, wish)).search(query, settings)


def _regions(atlas: Atlas, query: Query, wish: Wish) -> RegionResult:
    from microtome.search.polygon_query import PolygonQuery
    from microtome.search.query import ImageQuery, RegionQuery
    from microtome.search.region_result import RegionSettings
    from microtome.search.region_searcher import RegionSearcher

    if not isinstance(query, ImageQuery | RegionQuery | PolygonQuery):
        raise SettingError(
            f"{query.text} is no region",
            remedy="Ask for regions with an image, SLIDE#x,y,w,h or SLIDE#FILE.geojson.",
        )
    settings = RegionSettings(
        k=wish.k,
        where=wish.where,
        exclude=wish.exclude,
        model_id=_model_id(atlas, wish),
        query_mpp=wish.query_mpp,
        exact=wish.exact,
        spread=wish.spreading,
        min_score=wish.min_score,
    )
    result = RegionSearcher(atlas, _encoder(atlas, wish)).search(query, settings)
    if wish.geojson is not None:
        write_geojson(wish.geojson, result.to_geojson())
    return result


def _slides(atlas: Atlas, query: Query, wish: Wish, level: Literal["slide", "case"]) -> SlideResult:
    from microtome.search.slide_result import SlideSettings
    from microtome.search.slide_searcher import SlideSearcher

    settings = SlideSettings(
        k=wish.k,
        level=level,
        method=wish.method,
        where=wish.where,
        exclude=wish.exclude,
        model_id=_model_id(atlas, wish),
        query_mpp=wish.query_mpp,
        exact=wish.exact,
        spread=wish.spreading,
        min_score=wish.min_score,
    )
    return SlideSearcher(atlas, _encoder(atlas, wish)).search(query, settings)


def _model_id(atlas: Atlas, wish: Wish) -> str | None:
    from microtome.models.registry import load_card

    if wish.model is None:
        return None
    return _held(atlas, wish.model) or load_card(wish.model, _options(atlas, wish)).model_id


def _held(atlas: Atlas, name: str) -> str | None:
    """The one model of an atlas that has this id or name."""
    found = [one for one, card in atlas.models.items() if name in {one, card.name}]
    return found[0] if len(found) == 1 else None


def _encoder(atlas: Atlas, wish: Wish) -> Callable[[], Encoder]:
    """Loads the model to embed the query with, once it is needed."""
    from microtome.atlas.reading import model_source
    from microtome.models.registry import load_encoder

    def source() -> str:
        held = _held(atlas, wish.model) if wish.model else None
        return model_source(atlas, held) if held or not wish.model else wish.model

    return lambda: load_encoder(source(), _options(atlas, wish))


def _options(atlas: Atlas, wish: Wish) -> EncoderOptions:
    from microtome.atlas.reading import allowed_licences
    from microtome.models.registry import EncoderOptions

    licences = (*allowed_licences(atlas), *(wish.allow_licence or ()))
    return EncoderOptions(allow_licences=licences)


def check_geojson(path: Path) -> None:
    """Refuse early what could not be written.

    Raises:
        SettingError: the name doesn't end as it should, or its folder doesn't exist.
    """
    if path.suffix.lower() not in {".geojson", ".json"}:
        raise SettingError(f"the file of regions {path} must end in .geojson")
    if not path.absolute().parent.is_dir():
        raise SettingError(f"there is no folder for the regions {path}", remedy="Make it first.")


def write_geojson(path: Path, geojson: Mapping[str, Any]) -> None:
    """Write found regions for QuPath.

    Raises:
        SettingError: the file can't be written.
    """
    try:
        path.write_text(json.dumps(geojson, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise SettingError(f"the regions {path} can't be written: {error.strerror}") from None
